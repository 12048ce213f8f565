//! What goes wrong, when, and until when: [`plan`]. How, is in the files below: each begins and
//! ends some kinds of faults on a [`Stage`].

mod cause;
mod disks;
mod edits;
mod histories;
mod links;
mod plan;
mod processes;
mod subscribers;
mod touched;
mod upstream;

use std::time::Duration;

use crate::{report, stage::Stage};
pub(crate) use cause::Cause;
pub(crate) use disks::Full;
use edits::Edit;
use histories::Cut;
pub(crate) use histories::Pending;
use links::Link;
pub(crate) use plan::plan;
pub(crate) use subscribers::Interrupting;
use upstream::Trouble;

/// Something that is wrong for a while.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The process of a replica is killed; its machine refuses connections.
    Kill(usize),
    /// A replica is asked to stop, as in a rolling update.
    Stop(usize),
    /// The process of a replica stands still, while its machine goes on.
    Freeze(usize),
    /// A replica's machine loses power: silence, until it is back.
    PowerLoss(usize),
    /// All of them do.
    PowerLossOfAll,
    /// The disk of a replica has no room for more.
    FullDisk(usize),
    /// The disk of a replica takes long to make something durable.
    SlowDisk(usize),
    /// A host is cut off from all others: what is sent is lost.
    Isolation(String),
    /// Two hosts are cut off from each other.
    Cut(Link),
    /// The same in one direction.
    OneWayCut(Link),
    /// What two hosts send to each other arrives only at the end of this.
    Hold(Link),
    /// The same between a replica and all other hosts. Its own tasks and timers go on: it learns in
    /// time that its lease is over.
    HoldAll(usize),
    /// An API server misbehaves.
    Upstream(usize, Trouble),
    /// The history of an API server is replaced.
    History(usize, Cut),
    /// The operator changes a cluster.
    Operator(usize, Edit),
    /// A subscriber leaves, and comes back with its cursor, elsewhere.
    Leave(usize),
    /// A subscriber reads nothing, while much is written.
    Unread(usize),
    /// A subscriber leaves inside a snapshot that an API server makes necessary, and the version of
    /// the snapshot is compacted before it comes back.
    Interruption(usize, usize),
}

/// A fault, from when to when.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) until: Duration,
    pub(crate) fault: Fault,
}

/// Those that are not kinds of a [`Trouble`], a [`Cut`] or an [`Edit`].
const NAMES: [&str; 15] = [
    "Kill",
    "Stop",
    "Freeze",
    "PowerLoss",
    "PowerLossOfAll",
    "FullDisk",
    "SlowDisk",
    "Isolation",
    "Cut",
    "OneWayCut",
    "Hold",
    "HoldAll",
    "Leave",
    "Unread",
    "Interruption",
];

/// What is counted for each kind of fault that a seed can draw.
pub(crate) fn names() -> Vec<String> {
    let plain = NAMES.iter().map(|name| format!("fault {name}"));
    let troubles = Trouble::ALL.iter().map(|it| format!("fault {it:?}"));
    let cuts = Cut::ALL.iter().map(|cut| cut.name());
    let edits = Edit::ALL.iter().map(|edit| format!("fault {edit:?}"));
    plain.chain(troubles).chain(cuts).chain(edits).collect()
}

impl Fault {
    /// What it is called where faults are counted; nothing where it is counted once it comes about.
    fn kind(&self) -> Option<String> {
        let text = format!("{self:?}");
        match self {
            Self::Upstream(..) | Self::History(..) => None,
            Self::Operator(_, edit) => Some(format!("{edit:?}")),
            _ => text.split('(').next().map(str::to_owned),
        }
    }

    pub(crate) fn begin(&self, stage: &mut Stage) {
        report::note("fault", format_args!("{self:?} begins"));
        if let Some(kind) = self.kind() {
            report::reached(format!("fault {kind}"));
        }
        match self {
            Self::Kill(at) => stage.kill(*at),
            Self::Stop(at) => stage.stop(*at),
            Self::Freeze(at) => stage.replicas[*at].set_frozen(true),
            Self::PowerLoss(at) => stage.cut_power(*at),
            Self::PowerLossOfAll => (0..stage.replicas.len()).for_each(|at| stage.cut_power(at)),
            Self::FullDisk(at) => stage.fill_disk(*at),
            Self::SlowDisk(at) => stage.replicas[*at].set_slow(true),
            Self::Isolation(host) => stage.isolate(host),
            Self::Cut(link) => stage.cut(link),
            Self::OneWayCut(link) => stage.cut_one_way(link),
            Self::Hold(link) => stage.hold(link),
            Self::HoldAll(at) => stage.hold_all(*at),
            Self::Upstream(at, trouble) => stage.begin_trouble(*at, *trouble),
            Self::History(at, cut) => stage.begin_cut(*at, *cut),
            Self::Operator(at, edit) => stage.begin_edit(*at, *edit),
            Self::Leave(at) => stage.leave(*at),
            Self::Unread(at) => stage.stop_reading(*at),
            Self::Interruption(subscriber, server) => stage.interrupt(*subscriber, *server),
        }
    }

    pub(crate) fn end(&self, stage: &mut Stage) {
        report::note("fault", format_args!("{self:?} ends"));
        match self {
            Self::Kill(at) => stage.start(*at),
            Self::Stop(at) => {
                stage.kill(*at);
                stage.start(*at);
            }
            Self::Freeze(at) => stage.replicas[*at].set_frozen(false),
            Self::PowerLoss(at) => stage.power_up(*at),
            Self::PowerLossOfAll => (0..stage.replicas.len()).for_each(|at| stage.power_up(at)),
            Self::FullDisk(at) => stage.make_room(*at),
            Self::SlowDisk(at) => stage.replicas[*at].set_slow(false),
            Self::Isolation(host) => stage.join(host),
            Self::Cut(link) => stage.mend(link),
            Self::OneWayCut(link) => stage.mend_one_way(link),
            Self::Hold(link) => stage.release(link),
            Self::HoldAll(at) => stage.release_all(*at),
            Self::Upstream(at, trouble) => trouble.end(&stage.servers[*at]),
            // It is over when replicas have noticed it: [`Stage::advance_cuts`].
            Self::History(..) => {}
            Self::Operator(at, edit) => stage.end_edit(*at, *edit),
            Self::Leave(at) => stage.come_back(*at),
            Self::Unread(at) => stage.read_again(*at),
            Self::Interruption(subscriber, _) => stage.end_interruption(*subscriber),
        }
    }
}
