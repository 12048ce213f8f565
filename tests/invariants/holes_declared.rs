//! Nothing is lost in silence: each change between where a subscriber began and what its cursor
//! says was received, or is part of a gap that was declared and of what repaired it.

use quorumwatch::domain::{
    delivery::{item::Part, place::Place},
    event::Change,
    position::Position,
};

use super::{
    Verdict,
    facts::{Frame, Received, Written, net_changes, number, objects_at, through},
};

/// What is accounted for.
enum Account<'a> {
    /// So many changes of the history.
    Through(usize),
    /// Everything up to a repaired gap, and so many of its net changes.
    Repair {
        from: &'a Position,
        to: &'a Position,
        given: usize,
    },
    /// Nothing but these objects of a snapshot, with their versions.
    Snapshot(Vec<(&'a str, u64)>),
}

/// Follows what was received, change by change.
pub(crate) fn check(history: &[Written], received: Received<'_>) -> Verdict {
    let mut account = match received.began {
        Place::At(position) => Account::Through(through(history, position)),
        Place::SnapshotDue => Account::Snapshot(Vec::new()),
        _ if received.frames.is_empty() => return Ok(()),
        began => return Err(format!("nobody begins at {began}")),
    };
    for frame in received.frames {
        account = take(history, account, frame)?;
    }
    end(history, account, received.cursor)
}

fn take<'a>(
    history: &'a [Written],
    account: Account<'a>,
    frame: &'a Frame,
) -> Result<Account<'a>, String> {
    match frame {
        Frame::Event {
            part: Part::Live,
            position,
            object,
            change,
        } => {
            let done = all_through(history, &account)?;
            live(history, done, position, object, *change)
        }
        Frame::Event {
            part: Part::Repair,
            position,
            object,
            change,
        } => net_change(history, &account, position, object, *change),
        Frame::Event {
            part: Part::Snapshot,
            position,
            object,
            ..
        } => Ok(match account {
            Account::Snapshot(mut objects) => {
                objects.push((object.as_str(), number(&position.rv)));
                Account::Snapshot(objects)
            }
            // Not announced, which is another invariant's.
            other => other,
        }),
        Frame::Gap {
            repaired: true,
            from: Some(from),
            to: Some(to),
            ..
        } => {
            let done = all_through(history, &account)?;
            passes(history, done, through(history, from))?;
            let given = 0;
            Ok(Account::Repair { from, to, given })
        }
        Frame::Gap { repaired: true, .. } => Err("a repaired gap without its ends".into()),
        Frame::Gap { .. } | Frame::SnapshotRestarted => Ok(Account::Snapshot(Vec::new())),
        Frame::Synced(at) => {
            if let Account::Snapshot(objects) = &account {
                complete(history, objects, at)?;
            }
            Ok(Account::Through(through(history, at)))
        }
    }
}

/// A change was received when so many were accounted for.
fn live<'a>(
    history: &[Written],
    done: usize,
    position: &Position,
    object: &str,
    change: Change,
) -> Result<Account<'a>, String> {
    let upto = through(history, position);
    passes(history, done, upto.saturating_sub(1))?;
    let written = upto.checked_sub(1).and_then(|last| history.get(last));
    let is_written = written.is_some_and(|written| {
        written.rv == number(&position.rv) && written.object == object && written.change == change
    });
    if !is_written {
        return Err(format!("{change:?} {object} at {position} is not written"));
    }
    Ok(Account::Through(done.max(upto)))
}

fn net_change<'a>(
    history: &'a [Written],
    account: &Account<'a>,
    position: &Position,
    object: &str,
    change: Change,
) -> Result<Account<'a>, String> {
    let Account::Repair { from, to, given } = *account else {
        return Err(format!("{position} is a net change outside of a gap"));
    };
    let ordinal = usize::try_from(position.ordinal.get()).unwrap_or(usize::MAX);
    if ordinal > given {
        return Err(format!("net changes before {position} are missing"));
    }
    let changes = net_changes(history, number(&from.rv), number(&to.rv));
    let is_written = changes
        .get(ordinal)
        .is_some_and(|net| net.object == object && net.change == change);
    if !is_written || position.rv != to.rv {
        return Err(format!(
            "{change:?} {object} at {position} is no net change of {from} to {to}"
        ));
    }
    let given = given.max(ordinal + 1);
    Ok(Account::Repair { from, to, given })
}

/// How many changes are accounted for, where what was declared before is complete.
fn all_through(history: &[Written], account: &Account<'_>) -> Result<usize, String> {
    match account {
        Account::Through(done) => Ok(*done),
        Account::Repair { from, to, given } => {
            let changes = net_changes(history, number(&from.rv), number(&to.rv));
            if *given < changes.len() {
                return Err(format!(
                    "only {given} of the {} net changes of {from} to {to} were received",
                    changes.len()
                ));
            }
            Ok(through(history, to))
        }
        Account::Snapshot(_) => Err("a snapshot is not complete".into()),
    }
}

/// Whether nothing lies between so many changes and so many.
fn passes(history: &[Written], done: usize, upto: usize) -> Verdict {
    match history.get(done) {
        Some(lost) if upto > done => Err(format!(
            "{:?} {} at {} was not received",
            lost.change, lost.object, lost.rv
        )),
        _ => Ok(()),
    }
}

fn complete(history: &[Written], objects: &[(&str, u64)], at: &Position) -> Verdict {
    let expected = objects_at(history, number(&at.rv));
    for (object, rv) in &expected {
        if !objects.contains(&(*object, *rv)) {
            return Err(format!("{object} is missing in the snapshot of {at}"));
        }
    }
    for (object, rv) in objects {
        if expected.get(object) != Some(rv) {
            return Err(format!("{object} is not in the list of {at}"));
        }
    }
    Ok(())
}

/// What the cursor says must not be more than what was received.
fn end(history: &[Written], account: Account<'_>, cursor: &Place) -> Verdict {
    match (account, cursor) {
        (Account::Snapshot(_), Place::SnapshotDue) => Ok(()),
        (Account::Snapshot(objects), Place::Snapshot { given, .. }) => {
            if is_more(*given, objects.len()) {
                return Err(format!("{cursor} passes over objects of the snapshot"));
            }
            Ok(())
        }
        (Account::Repair { given, .. }, Place::Repair { given: says, .. }) => {
            if is_more(*says, given) {
                return Err(format!("{cursor} passes over net changes"));
            }
            Ok(())
        }
        (account, Place::At(position)) => {
            let done = all_through(history, &account)?;
            passes(history, done, through(history, position))
        }
        _ => Err(format!("{cursor} is not what was declared")),
    }
}

fn is_more(says: u32, given: usize) -> bool {
    usize::try_from(says).is_ok_and(|says| says > given)
}
