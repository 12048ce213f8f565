//! What `events` prints, in each of its formats.

use std::io::Write;

use serde::Serialize;

use super::{
    arguments::{Arguments, EventFormat},
    columns::EventTable,
    pretty::indented,
    row,
};
use crate::{
    cli::{
        Endpoint, Error, json,
        output::{self, Out},
        shards,
        table::or_dash,
    },
    proto::v1::{Gap, ShardChange, SubscribeResponse, subscribe_response::Frame},
};

/// Prints frames.
pub(super) struct Printer {
    out: Out,
    style: Style,
    with_progress: bool,
    /// The cursor that was printed last; with `-o cursor`.
    told: String,
}

enum Style {
    Table(EventTable),
    Lines,
    Indented,
    Yaml,
    Cursors,
}

impl Printer {
    pub(super) fn new(arguments: &Arguments) -> Self {
        let table = |wide| Style::Table(EventTable::new(wide, arguments.colours()));
        Self {
            out: output::open(),
            style: match arguments.format() {
                EventFormat::Table => table(false),
                EventFormat::Wide => table(true),
                EventFormat::Jsonl => Style::Lines,
                EventFormat::Json => Style::Indented,
                EventFormat::Yaml => Style::Yaml,
                EventFormat::Cursor => Style::Cursors,
            },
            with_progress: arguments.with_progress(),
            told: String::new(),
        }
    }

    /// Who sends from now on.
    pub(super) fn served_by(&mut self, endpoint: &Endpoint) {
        if let Style::Table(table) = &mut self.style {
            table.served_by(endpoint);
        }
    }

    /// Prints a frame; `cursor` is the whole cursor after it.
    pub(super) fn print(
        &mut self,
        response: &SubscribeResponse,
        cursor: Option<&str>,
    ) -> Result<(), Error> {
        if let Style::Table(table) = &mut self.style {
            return table.write(&mut self.out, response).map_err(Error::Output);
        }
        // Beside data, people are told as well.
        if let Some(Frame::Gap(gap)) = &response.frame {
            output::note(&gap_note(gap));
        }
        let progress = matches!(response.frame, Some(Frame::Progress(_)));
        if matches!(self.style, Style::Cursors) {
            return match cursor {
                Some(cursor) if progress => self.print_cursor(cursor),
                _ => Ok(()),
            };
        }
        if progress && !self.with_progress {
            return Ok(());
        }
        json::frame(response).map_or(Ok(()), |frame| self.print_data(&frame))
    }

    fn print_data(&mut self, frame: &json::FrameLine<'_>) -> Result<(), Error> {
        let text = match self.style {
            Style::Yaml => format!("---\n{}", yaml(frame)?),
            Style::Indented => {
                let compact = serde_json::to_string(frame).map_err(unwritable)?;
                indented(&compact) + "\n"
            }
            _ => return output::write_json_line(&mut self.out, frame),
        };
        self.out.write_all(text.as_bytes()).map_err(Error::Output)
    }

    fn print_cursor(&mut self, cursor: &str) -> Result<(), Error> {
        if self.told == cursor {
            return Ok(());
        }
        cursor.clone_into(&mut self.told);
        writeln!(self.out, "{cursor}").map_err(Error::Output)
    }

    /// Tells a change of ownership: in line, or beside data.
    pub(super) fn print_owner(&mut self, change: &ShardChange) -> Result<(), Error> {
        if let Style::Table(table) = &mut self.style {
            let written = table.write_row(&mut self.out, &row::owner(change));
            return written.map_err(Error::Output);
        }
        output::note(&format!(
            "{}: {} -> {}, epoch {}, {}",
            change.id,
            or_dash(&change.old_owner),
            or_dash(&change.new_owner),
            change.epoch,
            shards::reason(change.reason()),
        ));
        Ok(())
    }

    /// Whether anything was printed that nobody has seen yet.
    pub(super) fn has_buffered(&self) -> bool {
        !self.out.buffer().is_empty()
    }

    /// Shows what was printed.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.out.flush().map_err(Error::Output)
    }

    /// Ends the output; with `-o cursor`, with where the stream stands.
    pub(super) fn end(&mut self, cursor: Option<&str>) -> Result<(), Error> {
        if let (Style::Cursors, Some(cursor)) = (&self.style, cursor) {
            self.print_cursor(cursor)?;
        }
        self.flush()
    }
}

fn yaml(frame: &impl Serialize) -> Result<String, Error> {
    // By way of a tree, in which objects are no longer text.
    let tree = serde_json::to_value(frame).map_err(unwritable)?;
    serde_saphyr::to_string(&tree)
        .map_err(|error| Error::Output(std::io::Error::other(error.to_string())))
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::Output(error.into())
}

fn gap_note(gap: &Gap) -> String {
    format!(
        "gap in {} {}: {}",
        gap.cluster,
        gap.resource,
        row::gap_message(gap)
    )
}

#[cfg(test)]
mod tests {
    use super::yaml;

    #[test]
    fn yaml_keeps_text_that_looks_like_something_else() {
        let texts = [
            "no",
            "~",
            "1e3",
            "0x1F",
            "12:30:45",
            "2024-01-01",
            "- x",
            "# c",
            " a",
            "a: b",
            "",
        ];
        for text in texts {
            let told = yaml(&serde_json::json!({ "m": text })).unwrap();
            assert_eq!(told, format!("m: \"{text}\"\n"));
        }
        let told = yaml(&serde_json::json!({ "m": "plain", "x": 7, "l": [], "z": null })).unwrap();
        assert_eq!(told, "l: []\nm: plain\nx: 7\nz: null\n");
    }
}
