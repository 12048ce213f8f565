//! `quorumwatch members`: the replicas of the group.

use std::io::{self, Write};

use serde_json::json;

use super::{
    Endpoints, Error,
    connection::Connection,
    json::{self, word},
    output::{self, Format, Out, Output},
    table::{Table, or_dash},
    time::{age, instant, short},
};
use crate::proto::v1::{
    GetGroupRequest, GetGroupResponse, Member, RemoveMemberRequest,
    group_service_client::GroupServiceClient,
};

/// Show the replicas of the group, or remove one that is gone for good.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  quorumwatch members
  quorumwatch members -o json
  quorumwatch members remove quorumwatch-2"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    change: Option<Change>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Subcommand)]
enum Change {
    /// Remove a replica that is gone for good, so that another may take its name
    Remove {
        /// The replica's name; refused while it is alive
        name: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    if let Some(Change::Remove {
        name,
        connection,
        output,
    }) = arguments.change
    {
        remove(&connection.endpoints()?, &name).await?;
        let mut out = output::open();
        return match output.format {
            Format::Json => output::write_json(&mut out, &json!({ "name": name })),
            Format::Table => writeln!(out, "{name} removed")
                .and_then(|()| out.flush())
                .map_err(Error::Output),
        };
    }
    let group = get(&arguments.connection.endpoints()?).await?;
    let mut out = output::open();
    match arguments.output.format {
        Format::Json => output::write_json(&mut out, &json::group(&group)),
        Format::Table => write(&mut out, &group).map_err(Error::Output),
    }
}

/// The group.
pub(super) async fn get(endpoints: &Endpoints) -> Result<GetGroupResponse, Error> {
    endpoints
        .ask(|channel| async move {
            GroupServiceClient::new(channel)
                .get_group(GetGroupRequest {})
                .await
        })
        .await
}

async fn remove(endpoints: &Endpoints, name: &str) -> Result<(), Error> {
    endpoints
        .ask(|channel| {
            let name = name.to_owned();
            async move {
                GroupServiceClient::new(channel)
                    .remove_member(RemoveMemberRequest { name })
                    .await
            }
        })
        .await
        .map(drop)
}

fn write(out: &mut Out, group: &GetGroupResponse) -> io::Result<()> {
    writeln!(
        out,
        "group {}   leader {}   term {}   applied {} at {}\n",
        or_dash(&group.group_id),
        or_dash(&group.leader),
        group.term,
        group.applied_index,
        or_dash(&group.answered_by),
    )?;
    let rows: Vec<_> = group.members.iter().map(row).collect();
    Table::new(HEAD).write(out, &rows)?;
    out.flush()
}

/// The heads of the columns that [`row`] gives.
pub(super) const HEAD: [&str; 10] = [
    "NAME", "ROLE", "HEALTH", "SHARDS", "SILENT", "STARTED", "VERSION", "CLOCK", "CLIENT", "PEER",
];

/// Which of the columns tells the health.
pub(super) const HEALTH: usize = 2;

/// A replica in a table.
pub(super) fn row(member: &Member) -> [String; 10] {
    let started = member.start_time.as_ref().and_then(instant);
    [
        member.name.clone(),
        word(member.role().as_str_name(), "MEMBER_ROLE_"),
        word(member.health().as_str_name(), "MEMBER_HEALTH_"),
        member.shards.to_string(),
        member.silent_ms.map_or_else(|| "-".into(), short),
        started.map_or_else(|| "-".into(), |at| age(&at)),
        or_dash(&member.version),
        member
            .clock_offset_ms
            .map_or_else(|| "-".into(), |ms| format!("{ms:+}ms")),
        or_dash(&member.client_address),
        or_dash(&member.peer_address),
    ]
}
