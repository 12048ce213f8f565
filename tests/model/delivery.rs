//! The model of the delivery of changes, and its properties.

use quorumwatch::{agent::reconcile::Steps, domain::delivery::place::Place};
use stateright::{Model, Property};

use crate::{
    action::Action,
    group::{id_of, index_of},
    invariants::{
        Verdict, checkpoint_closed, checkpoint_published, epochs_grow, era_at_rest, exactly_once,
        facts::{Losses, Published, Received, through},
        gap_before_snapshot, gaps_justified, holes_declared, no_stale_epoch, one_source,
        positions_grow,
    },
    scope::Scope,
    server::Api,
    subscriber::Subscriber,
    watch::Waits,
    world::World,
};

/// The model: one shard with one stream, its replicas, its API server and its subscribers.
pub(crate) struct Delivery {
    pub(crate) scope: Scope,
}

/// A property that always holds.
pub(crate) struct Invariant {
    pub(crate) name: &'static str,
    /// What violates it.
    pub(crate) verdict: fn(&Delivery, &World) -> Verdict,
    holds: fn(&Delivery, &World) -> bool,
}

pub(crate) const NO_DEFECT: &str = "nothing is reported as a defect";
pub(crate) const EPOCHS_GROW: &str = "an epoch is minted once, and grows";
pub(crate) const ONE_SOURCE: &str = "one source publishes a shard under an epoch";
pub(crate) const NO_STALE_EPOCH: &str = "no stale epoch is delivered";
pub(crate) const POSITIONS_GROW: &str = "positions grow";
pub(crate) const EXACTLY_ONCE: &str = "nothing is delivered twice";
pub(crate) const HOLES_DECLARED: &str = "every hole is declared";
pub(crate) const GAP_BEFORE_SNAPSHOT: &str = "a gap precedes a snapshot";
pub(crate) const GAPS_JUSTIFIED: &str = "every gap is justified";
pub(crate) const CHECKPOINT_PUBLISHED: &str = "a checkpoint is not ahead of what was published";
pub(crate) const CHECKPOINT_CLOSED: &str = "a checkpoint is not inside a version";
pub(crate) const ERA_AT_REST: &str = "at rest the run is in the era of the state";
pub(crate) const NOTHING_STUCK: &str = "at rest a subscriber has everything";

/// All properties.
pub(crate) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: NO_DEFECT,
        verdict: no_defect,
        holds: |_, world| world.defect.is_none(),
    },
    Invariant {
        name: EPOCHS_GROW,
        verdict: epochs_grow,
        holds: |model, world| epochs_grow(model, world).is_ok(),
    },
    Invariant {
        name: ONE_SOURCE,
        verdict: one_source,
        holds: |model, world| one_source(model, world).is_ok(),
    },
    Invariant {
        name: NO_STALE_EPOCH,
        verdict: no_stale_epoch,
        holds: |model, world| no_stale_epoch(model, world).is_ok(),
    },
    Invariant {
        name: POSITIONS_GROW,
        verdict: positions_grow,
        holds: |model, world| positions_grow(model, world).is_ok(),
    },
    Invariant {
        name: EXACTLY_ONCE,
        verdict: exactly_once,
        holds: |model, world| exactly_once(model, world).is_ok(),
    },
    Invariant {
        name: HOLES_DECLARED,
        verdict: holes_declared,
        holds: |model, world| holes_declared(model, world).is_ok(),
    },
    Invariant {
        name: GAP_BEFORE_SNAPSHOT,
        verdict: gap_before_snapshot,
        holds: |model, world| gap_before_snapshot(model, world).is_ok(),
    },
    Invariant {
        name: GAPS_JUSTIFIED,
        verdict: gaps_justified,
        holds: |model, world| gaps_justified(model, world).is_ok(),
    },
    Invariant {
        name: CHECKPOINT_PUBLISHED,
        verdict: checkpoint_published,
        holds: |model, world| checkpoint_published(model, world).is_ok(),
    },
    Invariant {
        name: CHECKPOINT_CLOSED,
        verdict: checkpoint_closed,
        holds: |model, world| checkpoint_closed(model, world).is_ok(),
    },
    Invariant {
        name: ERA_AT_REST,
        verdict: era_at_rest,
        holds: |model, world| era_at_rest(model, world).is_ok(),
    },
    Invariant {
        name: NOTHING_STUCK,
        verdict: nothing_stuck,
        holds: |model, world| nothing_stuck(model, world).is_ok(),
    },
];

impl Model for Delivery {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.scope)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(&self.scope, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.act(&self.scope, action);
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let invariants = INVARIANTS.iter();
        invariants
            .map(|invariant| Property::always(invariant.name, invariant.holds))
            .collect()
    }
}

fn no_defect(_: &Delivery, world: &World) -> Verdict {
    world.defect.clone().map_or(Ok(()), Err)
}

fn epochs_grow(_: &Delivery, world: &World) -> Verdict {
    let assigned = world.group.assigned.iter();
    let minted: Vec<_> = assigned.map(|(epoch, _)| *epoch).collect();
    epochs_grow::check(&minted)
}

fn one_source(_: &Delivery, world: &World) -> Verdict {
    let replicas = world.replicas.iter().enumerate();
    let publishing: Vec<_> = replicas
        .filter_map(|(index, replica)| Some((id_of(index), replica.run.as_ref()?.epoch)))
        .collect();
    one_source::check(&world.group.assigned, &publishing)
}

fn no_stale_epoch(_: &Delivery, world: &World) -> Verdict {
    let mut logs = world.replicas.iter().map(|replica| &replica.log);
    logs.try_for_each(|log| no_stale_epoch::check(&log.sources))
}

/// Checks what each subscriber has received.
fn each_received(world: &World, check: impl Fn(Received<'_>) -> Verdict) -> Verdict {
    let mut received = world.subscribers.iter().filter_map(Subscriber::received);
    received.try_for_each(check)
}

fn positions_grow(_: &Delivery, world: &World) -> Verdict {
    each_received(world, positions_grow::check)
}

fn exactly_once(_: &Delivery, world: &World) -> Verdict {
    each_received(world, exactly_once::check)
}

fn holes_declared(model: &Delivery, world: &World) -> Verdict {
    let history = api(model, world).history();
    each_received(world, |received| holes_declared::check(history, received))
}

fn gap_before_snapshot(_: &Delivery, world: &World) -> Verdict {
    each_received(world, gap_before_snapshot::check)
}

fn gaps_justified(_: &Delivery, world: &World) -> Verdict {
    let losses = Losses {
        compacted: world.server.compacted,
        watchable: world.server.watchable,
        eras: &world.group.eras,
    };
    gaps_justified::check_eras(losses)?;
    each_received(world, |received| gaps_justified::check(losses, received))
}

fn checkpoint_published(model: &Delivery, world: &World) -> Verdict {
    match &world.group.stream().checkpoint {
        Some(checkpoint) => checkpoint_published::check(published(model, world), checkpoint),
        None => Ok(()),
    }
}

fn checkpoint_closed(model: &Delivery, world: &World) -> Verdict {
    match &world.group.stream().checkpoint {
        Some(checkpoint) => checkpoint_closed::check(published(model, world), checkpoint),
        None => Ok(()),
    }
}

fn published<'a>(model: &'a Delivery, world: &'a World) -> Published<'a> {
    let history = api(model, world).history();
    Published {
        history,
        changes: &world.published[..history.len()],
        covered: world.covered,
    }
}

fn api<'a>(model: &'a Delivery, world: &'a World) -> Api<'a> {
    Api {
        server: &world.server,
        script: &model.scope.script,
    }
}

fn era_at_rest(model: &Delivery, world: &World) -> Verdict {
    let Some(owner) = owner_at_rest(model, world) else {
        return Ok(());
    };
    let run = world.replicas[owner].run.as_ref().filter(|run| !run.over);
    let agreed = world.group.stream().era.as_ref().map(|start| start.era);
    era_at_rest::check(run.and_then(|run| run.era()), agreed)
}

/// The owner of the shard, where nothing is on its way that concerns what it publishes.
fn owner_at_rest(model: &Delivery, world: &World) -> Option<usize> {
    if world.defect.is_some() || !world.proposals.is_empty() {
        return None;
    }
    let owner = index_of(world.group.assignment().owner()?);
    let replica = &world.replicas[owner];
    let knows = replica.up && replica.applied == world.group.revision();
    if !knows || world.steps(&model.scope, owner) != Steps::default() {
        return None;
    }
    let run = replica.run.as_ref()?;
    let waits = run.asking.is_some() || matches!(run.watch.waits, Waits::Era { .. });
    (!waits || run.over).then_some(owner)
}

/// Where the owner has published everything and nothing else happens, what a subscriber reads must
/// not wait for anything.
fn nothing_stuck(model: &Delivery, world: &World) -> Verdict {
    let Some(owner) = owner_at_rest(model, world) else {
        return Ok(());
    };
    let has_all = |waits| waits == Waits::Change(world.server.written);
    let run = world.replicas[owner].run.as_ref();
    if !run.is_some_and(|run| has_all(run.watch.waits)) {
        return Ok(());
    }
    let history = api(model, world).history();
    for (index, subscriber) in world.subscribers.iter().enumerate() {
        let Some(replica) = subscriber.at else {
            continue;
        };
        let has_all = match &subscriber.place {
            Place::At(position) => through(history, position) == history.len(),
            _ => false,
        };
        let knows = world.replicas[replica].applied == world.group.revision()
            && world.steps(&model.scope, replica) == Steps::default();
        if has_all || !knows {
            continue;
        }
        let goes_on = [
            Action::Follow(replica),
            Action::Feed(replica),
            Action::Read(index),
        ];
        if !goes_on
            .iter()
            .any(|action| model.next_state(world, *action).is_some())
        {
            return Err(format!(
                "subscriber {index} stands at {} and receives nothing more",
                subscriber.place
            ));
        }
    }
    Ok(())
}
