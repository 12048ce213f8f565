//! `quorumwatch events`: streams events from the clusters.

mod arguments;
mod columns;
mod cursor_file;
mod follower;
mod object;
mod owners;
mod printer;
mod row;
mod streams;

use super::{Error, interrupt};
use crate::client::Subscription;
pub(super) use arguments::Arguments;
#[cfg(test)]
pub(super) use arguments::EventFormat;
use cursor_file::CursorFile;
use follower::Follower;
use owners::OwnerChanges;
use printer::Printer;

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    let shutdown = interrupt::token()?;
    let file = arguments.cursor_file.clone();
    let mut file = file.map(CursorFile::new).transpose()?;
    let saved = file.as_mut().map(CursorFile::read).transpose()?.flatten();
    let options = arguments.options(saved);
    let endpoints = arguments.connection.clone().endpoints()?;
    let follower = Follower::new(
        Subscription::new(endpoints.clone(), options),
        endpoints.clone(),
        (!arguments.is_quiet()).then(|| OwnerChanges::follow(endpoints)),
        Printer::new(&arguments),
        file,
        &arguments,
    );
    follower.run(&shutdown).await
}
