//! How far a replica has come in becoming, and staying, part of the group: [`Lifecycle`].

use super::id::{Incarnation, UnixMillis};

/// How a process registered itself with the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Which start of the replica this is.
    pub incarnation: Incarnation,
    /// When, by its own clock.
    pub at: UnixMillis,
}

/// A replica's way from its start to its service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifecycle {
    /// Its data is open, and may be a copy, or older than what it has acknowledged: it must not
    /// answer Raft's calls.
    #[default]
    Starting,
    /// Its data has been checked. It founds or joins the group, or waits to register with it.
    Checked,
    /// A member without contact with a majority: it has had no lease yet, or none for a while. What
    /// it knows may be old.
    CutOff(Registration),
    /// A member in contact with a majority.
    InContact(Registration),
}

/// What moves a replica on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// Its data may be used.
    Checked,
    /// It has registered, and has applied all that was committed before.
    Registered(Registration),
    /// It has a lease.
    ContactMade,
    /// It has had no lease for a while.
    ContactLost,
}

impl Lifecycle {
    /// The place after a milestone. One that does not fit changes nothing.
    #[must_use]
    pub fn after(self, milestone: Milestone) -> Self {
        match (self, milestone) {
            (Self::Starting, Milestone::Checked) => Self::Checked,
            (Self::Checked, Milestone::Registered(registration)) => Self::CutOff(registration),
            (Self::CutOff(registration), Milestone::ContactMade) => Self::InContact(registration),
            (Self::InContact(registration), Milestone::ContactLost) => Self::CutOff(registration),
            (now, _) => now,
        }
    }

    /// Whether Raft's calls may be answered.
    pub fn answers_raft(self) -> bool {
        self != Self::Starting
    }

    /// How it registered, once it has.
    pub fn registration(self) -> Option<Registration> {
        match self {
            Self::CutOff(registration) | Self::InContact(registration) => Some(registration),
            Self::Starting | Self::Checked => None,
        }
    }

    /// Whether it can serve: what it knows is new.
    pub fn is_in_contact(self) -> bool {
        matches!(self, Self::InContact(_))
    }
}

#[cfg(test)]
mod tests {
    use super::{Incarnation, Lifecycle, Milestone, Registration, UnixMillis};

    const REGISTERED: Registration = Registration {
        incarnation: Incarnation(7),
        at: UnixMillis(1),
    };

    #[test]
    fn a_replica_serves_only_as_a_member_in_contact() {
        let way = [
            (Milestone::ContactMade, (false, false, false)),
            (Milestone::Registered(REGISTERED), (false, false, false)),
            (Milestone::Checked, (true, false, false)),
            (Milestone::ContactMade, (true, false, false)),
            (Milestone::Registered(REGISTERED), (true, true, false)),
            (Milestone::ContactLost, (true, true, false)),
            (Milestone::ContactMade, (true, true, true)),
            (Milestone::Checked, (true, true, true)),
            (Milestone::ContactLost, (true, true, false)),
        ];
        let mut now = Lifecycle::default();
        for (milestone, expected) in way {
            now = now.after(milestone);
            let is_registered = now.registration() == Some(REGISTERED);
            let found = (now.answers_raft(), is_registered, now.is_in_contact());
            assert_eq!(found, expected, "{milestone:?}");
        }
    }
}
