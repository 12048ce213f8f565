//! `quorumwatch members`: the replicas of the group.

mod drain;

use std::io::{self, IsTerminal as _, Write};

use tokio_util::sync::CancellationToken;

use super::{
    Error,
    attempts::Attempts,
    connection::Connection,
    interrupt,
    json::{Json, word},
    output::{self, CLEAR, Format, Out, Output},
    table::{Table, or_dash},
    time::{age, instant, milliseconds, short_or_dash},
};
use crate::{
    client::{
        Client,
        watch::{GroupWatch, Update},
    },
    proto::v1::{
        GetGroupResponse, Member, WatchGroupRequest, WatchGroupResponse, watch_group_response,
    },
};

/// Show the replicas of the group, drain one before maintenance, or remove one that is gone for good.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  quorumwatch members
  quorumwatch members --watch
  quorumwatch members -o json
  quorumwatch members drain quorumwatch-2
  quorumwatch members resume quorumwatch-2
  quorumwatch members remove quorumwatch-2"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    change: Option<Change>,
    /// Then show the group again on each change, until Ctrl-C. With -o json: one line per message.
    #[arg(short = 'w', long)]
    watch: bool,
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
    /// Move every shard of a replica to others, and wait until it owns nothing
    ///
    /// It keeps its vote and takes no shards until it is resumed, also after restarts. What no other
    /// replica can watch stays with it. Ctrl-C ends the waiting, not the drain.
    Drain {
        /// The replica's name
        name: String,
        /// Do not wait until it owns nothing
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Let a replica that was drained take shards again
    Resume {
        /// The replica's name
        name: String,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
}

async fn change(change: Change) -> Result<(), Error> {
    let (output, json, note) = match change {
        Change::Remove {
            name,
            connection,
            output,
        } => {
            let answer = connection.client()?.remove_member(&name).await?;
            let note = format!("{name} is no longer a member");
            (output, Json::of(&answer), note)
        }
        Change::Drain {
            name,
            no_wait,
            connection,
            output,
        } => {
            let member = drain::drain(&connection.client()?, &name, !no_wait).await?;
            let note = drain::outcome(&member);
            (output, Json::of(&member), note)
        }
        Change::Resume {
            name,
            connection,
            output,
        } => {
            let answer = connection.client()?.resume_member(&name).await?;
            let member = answer.member.unwrap_or_default();
            let note = format!("{name} takes shards again");
            (output, Json::of(&member), note)
        }
    };
    match output.format {
        Format::Json => output::write_json(&mut output::open(), &json),
        Format::Table => {
            output::note(&note);
            Ok(())
        }
    }
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Error> {
    if let Some(wanted) = arguments.change {
        return change(wanted).await;
    }
    let client = arguments.connection.client()?;
    let mut out = output::open();
    if arguments.watch {
        let shutdown = interrupt::token()?;
        return watch(&client, &mut out, arguments.output.format, &shutdown).await;
    }
    let answer = client.get_group().await?;
    match arguments.output.format {
        Format::Json => output::write_json(&mut out, &Json::of(&answer)),
        Format::Table => write(&mut out, &answer).map_err(Error::Output),
    }
}

async fn watch(
    client: &Client,
    out: &mut Out,
    format: Format,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let endpoints = client.endpoints().clone();
    let mut attempts = Attempts::new(endpoints.clone());
    let mut watch = GroupWatch::new(endpoints, WatchGroupRequest::default());
    let clear = if io::stdout().is_terminal() {
        CLEAR
    } else {
        ""
    };
    loop {
        let update = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            update = watch.next() => update?,
        };
        match update {
            Update::Connected(_) => attempts.serves(),
            Update::Interrupted { endpoint, why } => {
                attempts.note_failure(&endpoint, &why)?;
            }
            Update::Snapshot => {
                let group = watch.group().cloned().unwrap_or_default();
                let (revision, answered_by) = (watch.revision(), watch.answered_by().to_owned());
                if format == Format::Json {
                    let message = WatchGroupResponse {
                        revision,
                        answered_by,
                        update: Some(watch_group_response::Update::Group(group)),
                    };
                    output::write_json_line(out, &Json::of(&message))?;
                    out.flush().map_err(Error::Output)?;
                    continue;
                }
                let answer = GetGroupResponse {
                    group: Some(group),
                    revision,
                    answered_by,
                };
                write!(out, "{clear}")
                    .and_then(|()| write(out, &answer))
                    .and_then(|()| writeln!(out))
                    .and_then(|()| out.flush())
                    .map_err(Error::Output)?;
            }
            Update::Change(never) => match never {},
        }
    }
}

fn write(out: &mut impl Write, answer: &GetGroupResponse) -> io::Result<()> {
    let group = answer.group.clone().unwrap_or_default();
    writeln!(
        out,
        "group {}   leader {}   term {}   revision {} at {}\n",
        or_dash(&group.group_id),
        or_dash(&group.leader),
        group.term,
        answer.revision,
        or_dash(&answer.answered_by),
    )?;
    let rows: Vec<_> = group.members.iter().map(row).collect();
    Table::new(HEAD).write(out, &rows)?;
    if !group.problem.is_empty() {
        writeln!(out, "\n{}", super::table::plain(&group.problem))?;
    }
    out.flush()
}

/// The headings of the columns of [`row`].
pub(super) const HEAD: [&str; 10] = [
    "NAME", "ROLE", "HEALTH", "SHARDS", "SILENT", "STARTED", "VERSION", "CLOCK", "CLIENT", "PEER",
];

/// Which of the columns shows the health.
pub(super) const HEALTH: usize = 2;

/// `active`, `active, draining`, `active, drained`.
fn health(member: &Member) -> String {
    let health = word(member.health().as_str_name(), "MEMBER_HEALTH_");
    match (member.draining, member.shards) {
        (false, _) => health,
        (true, 0) => format!("{health}, drained"),
        (true, _) => format!("{health}, draining"),
    }
}

/// The table row of a replica.
pub(super) fn row(member: &Member) -> [String; 10] {
    let started = member.start_time.as_ref().and_then(instant);
    let offset = member.clock_offset.as_ref().map(milliseconds);
    [
        member.name.clone(),
        word(member.role().as_str_name(), "MEMBER_ROLE_"),
        health(member),
        member.shards.to_string(),
        short_or_dash(member.silence.as_ref()),
        started.map_or_else(|| "-".into(), |at| age(&at)),
        or_dash(&member.version),
        offset.map_or_else(|| "-".into(), |ms| format!("{ms:+}ms")),
        or_dash(&member.client_address),
        or_dash(&member.peer_address),
    ]
}

#[cfg(test)]
mod tests {
    use super::{GetGroupResponse, Member, health, write};
    use crate::proto::v1::{Group, MemberHealth, MemberRole};

    #[test]
    fn a_drained_replica_is_shown_as_one() {
        let mut member = Member {
            health: MemberHealth::Active.into(),
            draining: true,
            shards: 2,
            ..Member::default()
        };
        assert_eq!(health(&member), "active, draining");
        member.shards = 0;
        assert_eq!(health(&member), "active, drained");
    }

    #[test]
    fn a_group_is_shown_with_its_members_and_what_is_wrong_with_it() {
        let member = Member {
            name: "a".into(),
            role: MemberRole::Registered.into(),
            health: MemberHealth::Unknown.into(),
            clock_offset: Some(prost_types::Duration {
                seconds: -1,
                nanos: -500_000_000,
            }),
            ..Member::default()
        };
        let answer = GetGroupResponse {
            group: Some(Group {
                group_id: "g".into(),
                members: vec![member],
                problem: "no quorum".into(),
                ..Group::default()
            }),
            revision: 12,
            answered_by: "a".into(),
        };
        let mut out = Vec::new();
        write(&mut out, &answer).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("group g   leader -   term 0   revision 12 at a\n"),
            "{text}"
        );
        assert!(text.contains("a      registered   unknown"), "{text}");
        assert!(text.contains("-1500ms"), "{text}");
        assert!(text.ends_with("\nno quorum\n"), "{text}");
    }
}
