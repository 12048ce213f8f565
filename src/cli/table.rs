//! Aligned columns.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Between columns, as kubectl has it.
const GUTTER: &str = "   ";

/// A table whose columns are as wide as their widest cell.
#[derive(Clone, Debug)]
pub(super) struct Table<const N: usize> {
    head: [&'static str; N],
    widths: [usize; N],
}

impl<const N: usize> Table<N> {
    /// Columns as wide as their heads.
    pub(super) fn new(head: [&'static str; N]) -> Self {
        Self {
            head,
            widths: head.map(str::len),
        }
    }

    /// Writes the heads and all rows.
    pub(super) fn write(&mut self, out: &mut impl Write, rows: &[[String; N]]) -> io::Result<()> {
        for row in rows {
            self.widen(row);
        }
        self.write_head(out)?;
        rows.iter().try_for_each(|row| self.write_row(out, row))
    }

    /// Writes the heads.
    pub(super) fn write_head(&mut self, out: &mut impl Write) -> io::Result<()> {
        let head = self.head.map(str::to_owned);
        self.write_row(out, &head)
    }

    /// Writes one row.
    pub(super) fn write_row(&mut self, out: &mut impl Write, row: &[String; N]) -> io::Result<()> {
        self.widen(row);
        let mut line = String::new();
        for (cell, width) in row.iter().zip(self.widths) {
            let cell = plain(cell);
            let blank = width.saturating_sub(width_of(&cell));
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', blank));
            line.push_str(GUTTER);
        }
        writeln!(out, "{}", line.trim_end())
    }

    /// Makes the columns wide enough for a row that is written later, or not at all.
    pub(super) fn widen(&mut self, row: &[String; N]) {
        // The last column may be as long as it likes: nothing stands after it.
        let last = N.saturating_sub(1);
        for (width, cell) in self.widths.iter_mut().zip(row).take(last) {
            *width = (*width).max(width_of(&plain(cell)));
        }
    }
}

/// The text without what would move the cursor or colour the terminal: others wrote it.
pub(super) fn plain(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.trim_end().chars().map(shown).collect()
}

/// How many columns of a terminal a text takes.
pub(super) fn width_of(text: &str) -> usize {
    text.width()
}

/// The text, cut to a width with a sign of it, where that is asked for.
pub(super) fn clipped(text: &str, width: usize, clip: bool) -> String {
    if !clip || text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut taken = 1;
    for symbol in text.chars() {
        taken += symbol.width().unwrap_or(0);
        if taken > width {
            break;
        }
        kept.push(symbol);
    }
    kept.push('\u{2026}');
    kept
}

/// A cell without a value.
pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Table, clipped, width_of};

    #[test]
    fn what_is_cut_is_marked_and_fits() {
        assert_eq!(clipped("abcdef", 4, true), "abc\u{2026}");
        assert_eq!(clipped("abcd", 4, true), "abcd");
        assert_eq!(clipped("abcdef", 4, false), "abcdef");
        let wide = clipped("\u{65e5}\u{672c}\u{8a9e}", 4, true);
        assert!(width_of(&wide) <= 4, "{wide}");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let mut out = Vec::new();
        let rows = [row("a-long-name", "x"), row("b", "a longer text")];
        Table::new(["NAME", "B"]).write(&mut out, &rows).unwrap();
        let lines = "NAME          B\na-long-name   x\nb             a longer text\n";
        assert_eq!(String::from_utf8(out).unwrap(), lines);
    }

    #[test]
    fn what_others_wrote_cannot_drive_the_terminal() {
        let mut out = Vec::new();
        let row = ["a\u{1b}[31m\nb".to_owned()];
        Table::new(["X"]).write_row(&mut out, &row).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a\u{fffd}[31m b\n");
    }
}
