//! What the model's API server does.

use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::Failure;

pub(super) const OTHER: Failure = Failure::Other {
    retry_after_ms: None,
};

/// What the model's API server does next.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Creates, changes or deletes this object.
    Write {
        name: u8,
        delete: bool,
    },
    /// Deletes everything at one version.
    DeleteAll,
    /// Something of another resource is written.
    WriteElsewhere,
    /// Sends the next events of the watch.
    Send {
        events: u8,
    },
    /// From now on nothing is sent, or everything again.
    Hold {
        on: bool,
    },
    /// Leaves out the next event of the watch.
    Drop,
    /// Sends an event from before the place where the watch began.
    Replay {
        back: u8,
    },
    /// Sends a bookmark where everything has been sent.
    Bookmark,
    /// Ends the watch, or breaks it.
    End,
    Cut,
    /// Fails the watch, or what is asked next.
    Fail(Failure),
    /// Goes on with a list that was asked for.
    List,
    /// Time passes.
    Pass {
        ms: u32,
    },
    /// From now on a watch at a version that is compacted is accepted and closed without a word,
    /// or refused.
    CloseSilently {
        on: bool,
    },
    /// The watch cache is reset.
    ResetCache,
    /// Compaction: exact lists before now are gone too.
    Compact,
    /// etcd is restored from a while ago under whatever is open, and written to.
    Rewind {
        back: u8,
        writes: u8,
    },
}

pub(super) fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (0..4u8, any::<bool>()).prop_map(|(name, delete)| Act::Write { name, delete }),
        1 => Just(Act::DeleteAll),
        2 => Just(Act::WriteElsewhere),
        6 => (0..6u8).prop_map(|events| Act::Send { events }),
        2 => any::<bool>().prop_map(|on| Act::Hold { on }),
        1 => Just(Act::Drop),
        1 => (0..9u8).prop_map(|back| Act::Replay { back }),
        2 => Just(Act::Bookmark),
        3 => Just(Act::End),
        2 => Just(Act::Cut),
        1 => Just(Act::Fail(Failure::Internal)),
        1 => Just(Act::Fail(OTHER)),
        4 => Just(Act::List),
        4 => (0..20_000u32).prop_map(|ms| Act::Pass { ms }),
        1 => (0..400_000u32).prop_map(|ms| Act::Pass { ms }),
        1 => any::<bool>().prop_map(|on| Act::CloseSilently { on }),
        1 => Just(Act::ResetCache),
        1 => Just(Act::Compact),
        1 => (1..9u8, 0..12u8).prop_map(|(back, writes)| Act::Rewind { back, writes }),
    ]
}
