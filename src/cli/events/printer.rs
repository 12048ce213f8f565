//! What `events` prints, in each of its formats.

use std::io::Write;

use super::{
    arguments::{Arguments, EventFormat},
    columns::EventTable,
    row,
};
use crate::{
    cli::{
        Endpoint, Error,
        json::{Json, json},
        output::{self, Out},
        shards,
        table::or_dash,
    },
    client::Cursor,
    proto::v1::{Shard, ShardChange, SubscribeResponse, subscribe_response::Frame},
};

/// Prints frames.
pub(super) struct Printer {
    out: Out,
    style: Style,
    with_progress: bool,
    /// The cursor that was printed last; with `-o cursor`.
    printed: String,
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
            printed: String::new(),
        }
    }

    /// Sets the replica that serves the stream from now on.
    pub(super) fn served_by(&mut self, endpoint: &Endpoint) {
        if let Style::Table(table) = &mut self.style {
            table.served_by(endpoint);
        }
    }

    /// Prints a frame; `cursor` is what is kept of the cursor after it.
    pub(super) fn print(
        &mut self,
        response: &SubscribeResponse,
        cursor: &Cursor,
    ) -> Result<(), Error> {
        if let Style::Table(table) = &mut self.style {
            return table.write(&mut self.out, response).map_err(Error::Output);
        }
        if let Some(note) = row::note(response) {
            output::note(&note);
        }
        let progress = matches!(response.frame, Some(Frame::Progress(_)));
        match self.style {
            Style::Cursors if progress => self.print_cursor(cursor),
            Style::Cursors => Ok(()),
            // A kind of frame that this version does not know is skipped.
            _ if response.frame.is_none() || progress && !self.with_progress => Ok(()),
            _ => self.print_data(response),
        }
    }

    fn print_data(&mut self, response: &SubscribeResponse) -> Result<(), Error> {
        let text = match self.style {
            Style::Yaml => format!("---\n{}", yaml(&json(response))?),
            Style::Indented => {
                let frame = Json::of(response);
                serde_json::to_string_pretty(&frame).map_err(unwritable)? + "\n"
            }
            _ => return output::write_json_line(&mut self.out, &Json::of(response)),
        };
        self.out.write_all(text.as_bytes()).map_err(Error::Output)
    }

    fn print_cursor(&mut self, cursor: &Cursor) -> Result<(), Error> {
        let cursor = cursor.parts().join(",");
        if cursor.is_empty() || self.printed == cursor {
            return Ok(());
        }
        writeln!(self.out, "{cursor}").map_err(Error::Output)?;
        self.printed = cursor;
        Ok(())
    }

    /// Prints a change of ownership: in line, or beside data.
    pub(super) fn print_owner(&mut self, change: &ShardChange, shard: &Shard) -> Result<(), Error> {
        if let Style::Table(table) = &mut self.style {
            let written = table.write_row(&mut self.out, &row::owner(change, shard));
            return written.map_err(Error::Output);
        }
        output::note(&format!(
            "{}: {} -> {}, epoch {}, {}",
            shard.name,
            or_dash(&change.old_owner),
            or_dash(&shard.owner),
            shard.epoch,
            shards::reason(shard.reason()),
        ));
        Ok(())
    }

    /// Whether anything was printed that is not visible yet.
    pub(super) fn has_buffered(&self) -> bool {
        !self.out.buffer().is_empty()
    }

    /// Flushes the output.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.out.flush().map_err(Error::Output)
    }

    /// Ends the output; with `-o cursor`, with where the stream stands.
    pub(super) fn end(&mut self, cursor: &Cursor) -> Result<(), Error> {
        if matches!(self.style, Style::Cursors) {
            self.print_cursor(cursor)?;
        }
        self.flush()
    }
}

fn yaml(tree: &serde_json::Value) -> Result<String, Error> {
    serde_saphyr::to_string(tree)
        .map_err(|error| Error::Output(std::io::Error::other(error.to_string())))
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::Output(error.into())
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
            let written = yaml(&serde_json::json!({ "m": text })).unwrap();
            assert_eq!(written, format!("m: \"{text}\"\n"));
        }
        let text = yaml(&serde_json::json!({ "m": "plain", "x": 7, "l": [], "z": null })).unwrap();
        assert_eq!(text, "l: []\nm: plain\nx: 7\nz: null\n");
    }
}
