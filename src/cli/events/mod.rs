//! `quorumwatch events`: follow what happens in the clusters.

mod arguments;
mod columns;
mod cursor_file;
mod follower;
mod object;
mod owners;
mod pretty;
mod printer;
mod row;

use super::{
    Error, interrupt,
    subscription::{Begin, Subscription},
};
pub(super) use arguments::Arguments;
#[cfg(test)]
pub(super) use arguments::EventFormat;
use cursor_file::CursorFile;
use follower::Follower;
use owners::OwnerChanges;
use printer::Printer;

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let shutdown = interrupt::token()?;
    let file = arguments.since_cursor.clone();
    let file = file.map(CursorFile::new).transpose()?;
    let kept = file.as_ref().map(CursorFile::read).transpose()?;
    let begin = match arguments.cursor.clone().or_else(|| kept.flatten()) {
        Some(cursor) => Begin::After(cursor),
        None if arguments.snapshot => Begin::Snapshot,
        None => Begin::Now,
    };
    let filter = arguments.filter();
    let endpoints = arguments.connection.clone().endpoints()?;
    let follower = Follower::new(
        Subscription::new(endpoints.clone(), filter, begin),
        endpoints.clone(),
        (!arguments.is_quiet()).then(|| OwnerChanges::follow(endpoints)),
        Printer::new(&arguments),
        file,
        &arguments,
    );
    follower.run(&shutdown).await
}
