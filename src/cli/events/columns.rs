//! Events as `kubectl get events -A --watch` shows them, the cluster first, and as wide as the
//! terminal.

use std::io::{self, Write};

use super::row::{self, Row};
use crate::{
    cli::{
        Endpoint,
        table::{clipped, plain, width_of},
        terminal::{self, Tone},
    },
    proto::v1::{SubscribeResponse, subscribe_response::Frame},
};

/// What the last column should get on a terminal; other columns give way until they are at their
/// least.
const MESSAGE_WIDTH: usize = 30;
/// Below this width there is no column for what live events have in common.
const ROOMY: usize = 140;
/// Below this width the message has a line of its own.
const NARROW: usize = 100;
const INDENT: &str = "    ";

/// One column: its head, the cell, the width that it begins with, and the least on a terminal.
struct Column {
    head: &'static str,
    cell: fn(&Row) -> &str,
    width: usize,
    least: usize,
}

const fn column(head: &'static str, cell: fn(&Row) -> &str, width: usize, least: usize) -> Column {
    Column {
        head,
        cell,
        width,
        least,
    }
}

/// A table that is written row by row, so that columns cannot be fitted beforehand: they begin
/// with common widths and grow, on a terminal only while the message has room.
pub(super) struct EventTable {
    columns: Vec<Column>,
    gutter: &'static str,
    /// The message has a line of its own.
    is_narrow: bool,
    is_wide: bool,
    colours: bool,
    has_head: bool,
    endpoint: String,
}

impl EventTable {
    pub(super) fn new(is_wide: bool, colours: bool) -> Self {
        let terminal = terminal::width().filter(|_| !is_wide);
        Self::for_terminal(terminal, is_wide, colours)
    }

    fn for_terminal(terminal: Option<usize>, is_wide: bool, colours: bool) -> Self {
        let mut columns = vec![
            column("CLUSTER", |row| &row.cluster, 10, 8),
            column("NAMESPACE", |row| &row.namespace, 12, 9),
            column("LAST SEEN", |row| &row.last_seen, 9, 9),
            column("CHANGE", |row| &row.change, 8, 8),
            column("TYPE", |row| &row.kind, 7, 7),
            column("REASON", |row| &row.reason, 16, 12),
            column("OBJECT", |row| &row.object, 32, 28),
        ];
        if is_wide {
            columns.extend([
                column("SUBOBJECT", |row| &row.subobject, 9, 9),
                column("SOURCE", |row| &row.source, 20, 9),
                column("FIRST SEEN", |row| &row.first_seen, 10, 9),
                column("COUNT", |row| &row.count, 5, 5),
                column("NAME", |row| &row.name, 32, 16),
                column("EPOCH", |row| &row.epoch, 5, 5),
                column("ID", |row| &row.id, 36, 36),
            ]);
        }
        let mut gutter = "   ";
        if let Some(terminal) = terminal {
            // Live events were seen just now, and the colour or the type shows the change.
            if terminal < ROOMY {
                columns.retain(|column| column.head != "LAST SEEN");
            }
            if terminal < NARROW {
                columns.retain(|column| column.head != "CHANGE");
                gutter = "  ";
            }
        }
        let mut table = Self {
            columns,
            gutter,
            is_narrow: terminal.is_some_and(|terminal| terminal < NARROW),
            is_wide,
            colours,
            has_head: false,
            endpoint: String::new(),
        };
        if let Some(terminal) = terminal {
            table.shrink(terminal);
        }
        table
    }

    /// Sets the replica that serves the stream from now on.
    pub(super) fn served_by(&mut self, endpoint: &Endpoint) {
        self.endpoint = endpoint.to_string();
    }

    pub(super) fn write(
        &mut self,
        out: &mut impl Write,
        response: &SubscribeResponse,
    ) -> io::Result<()> {
        let row = match &response.frame {
            Some(Frame::Event(event)) => row::event(event),
            Some(Frame::Gap(gap)) => row::gap(gap),
            Some(Frame::Synced(synced)) => row::synced(synced),
            Some(Frame::StreamChange(change)) => match row::stream_change(change) {
                Some(row) => row,
                None => return Ok(()),
            },
            // The head shows that the subscription stands.
            Some(Frame::Progress(_)) => return self.write_head(out),
            // Why it resumes elsewhere is a note.
            Some(Frame::Closing(_) | Frame::Heartbeat(_)) | None => return Ok(()),
        };
        self.write_row(out, &row)
    }

    fn write_head(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.has_head {
            return Ok(());
        }
        self.has_head = true;
        let mut line = String::new();
        for column in &self.columns {
            push(&mut line, column.head, column.width);
            line.push_str(self.gutter);
        }
        if self.is_wide {
            push(&mut line, "FROM", self.endpoint.len());
            line.push_str(self.gutter);
        }
        if !self.is_narrow {
            line.push_str("MESSAGE");
        }
        writeln!(out, "{}", Tone::Bold.paint(line.trim_end(), self.colours))?;
        if self.is_narrow {
            let message = Tone::Bold.paint("MESSAGE", self.colours);
            writeln!(out, "{INDENT}{message}")?;
        }
        Ok(())
    }

    /// Writes one row, and the head before the first.
    pub(super) fn write_row(&mut self, out: &mut impl Write, row: &Row) -> io::Result<()> {
        self.write_head(out)?;
        let terminal = terminal::width().filter(|_| !self.is_wide);
        let line = self.line(row, terminal);
        writeln!(out, "{line}")
    }

    fn line(&mut self, row: &Row, terminal: Option<usize>) -> String {
        self.grow(row, terminal);
        let shows_change = self.columns.iter().any(|column| column.head == "CHANGE");
        let warns = row.kind == "Warning" && row.tone.is_none();
        let mut line = String::new();
        for column in &self.columns {
            let mut cell = (column.cell)(row);
            // Where there is no room for the change, the type shows the ones that matter.
            if column.head == "TYPE" && !shows_change && is_shown_by_type(&row.change) {
                cell = &row.change;
            }
            let cell = clipped(&plain(cell), column.width, terminal.is_some());
            let mut padded = String::new();
            push(&mut padded, &cell, column.width);
            let tone = match column.head {
                "TYPE" | "REASON" if warns => Tone::Notable,
                _ => Tone::Plain,
            };
            line.push_str(&tone.paint(&padded, self.colours));
            line.push_str(self.gutter);
        }
        if self.is_wide {
            line.push_str(&self.endpoint);
            line.push_str(self.gutter);
        }
        let before = if self.is_narrow {
            line.truncate(line.trim_end().len());
            line.push('\n');
            line.push_str(INDENT);
            INDENT.len()
        } else {
            self.taken()
        };
        let room = terminal.map_or(usize::MAX, |terminal| terminal.saturating_sub(before));
        line.push_str(&clipped(&plain(&row.message), room, terminal.is_some()));
        let tone = row.tone.unwrap_or(Tone::Plain);
        tone.paint(line.trim_end(), self.colours)
    }

    /// What all columns but the last take.
    fn taken(&self) -> usize {
        let columns = self.columns.iter();
        columns.map(|column| column.width + self.gutter.len()).sum()
    }

    /// What the message should get beside them.
    fn beside(&self) -> usize {
        if self.is_narrow { 0 } else { MESSAGE_WIDTH }
    }

    /// Makes columns as narrow as the terminal asks for, the roomiest first.
    fn shrink(&mut self, terminal: usize) {
        while self.taken() + self.beside() > terminal {
            let roomiest = self
                .columns
                .iter_mut()
                .max_by_key(|column| column.width - column.least);
            match roomiest.filter(|column| column.width > column.least) {
                Some(column) => column.width -= 1,
                None => return,
            }
        }
    }

    fn grow(&mut self, row: &Row, terminal: Option<usize>) {
        let taken = self.taken() + self.beside();
        let mut spare = terminal.map_or(usize::MAX, |terminal| terminal.saturating_sub(taken));
        for column in &mut self.columns {
            let wanted = width_of(&plain((column.cell)(row)));
            let more = wanted.saturating_sub(column.width).min(spare);
            column.width += more;
            spare -= more;
        }
    }
}

fn is_shown_by_type(change: &str) -> bool {
    matches!(
        change,
        "DELETED" | "UNMATCHED" | "GAP" | "OWNER" | "STREAM" | "SYNCED"
    )
}

/// Appends a cell, filled up to its width.
fn push(line: &mut String, cell: &str, width: usize) {
    line.push_str(cell);
    line.extend(std::iter::repeat_n(
        ' ',
        width.saturating_sub(width_of(cell)),
    ));
}

#[cfg(test)]
mod tests {
    use super::{EventTable, Row, width_of};

    fn row() -> Row {
        Row {
            cluster: "prod-eu-west-1".into(),
            namespace: "payments".into(),
            last_seen: "0s".into(),
            change: "DELETED".into(),
            kind: "Warning".into(),
            reason: "FailedScheduling".into(),
            object: "pod/checkout-fb68dacb-9c777-with-a-long-name".into(),
            message: "0/6 nodes are available: 3 Insufficient cpu, 3 node(s) had taints".into(),
            ..Row::default()
        }
    }

    #[test]
    fn a_line_is_never_wider_than_the_terminal() {
        for terminal in [80, 99, 100, 139, 140, 160, 240] {
            let mut table = EventTable::for_terminal(Some(terminal), false, false);
            for _ in 0..3 {
                let text = table.line(&row(), Some(terminal));
                let fits = |line: &str| width_of(line) <= terminal;
                assert!(text.lines().all(fits), "{terminal}: {text}");
                assert!(text.contains("DELETED"), "{terminal}: {text}");
            }
        }
    }

    #[test]
    fn a_narrow_terminal_shows_the_message_below() {
        let mut table = EventTable::for_terminal(Some(80), false, false);
        let text = table.line(&row(), Some(80));
        let (_, message) = text.split_once('\n').unwrap();
        assert_eq!(message, format!("    {}", row().message));
    }

    #[test]
    fn nothing_is_cut_where_there_is_no_terminal() {
        let mut table = EventTable::for_terminal(None, false, false);
        let line = table.line(&row(), None);
        assert!(
            line.contains("with-a-long-name") && line.ends_with("had taints"),
            "{line}"
        );
    }

    #[test]
    fn columns_stay_aligned_once_they_have_grown() {
        let mut table = EventTable::for_terminal(Some(200), false, false);
        let place = |line: &str| line.find("0/6").unwrap();
        let first = place(&table.line(&row(), Some(200)));
        assert_eq!(place(&table.line(&row(), Some(200))), first);
    }
}
