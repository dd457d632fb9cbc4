//! Tables for people.

use std::fmt::Write;

/// Rows under headings.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Each column as wide as its widest cell.
    pub(crate) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let mut widths = vec![0; columns];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).fold(String::new(), |mut line, (cell, width)| {
                let _ = write!(line, "{cell:width$}   ");
                line
            });
            let _ = writeln!(text, "{}", cells.trim_end());
        }
        text
    }
}

/// What others have said, without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars()
        .map(|letter| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be_and_terminals_obey_nobody() {
        let mut table = Table::new(&["NAME", "ABOUT"]);
        table.row(["são-paulo".to_owned(), String::new()]);
        table.row(["x".to_owned(), "a\u{1b}[31m\nb".to_owned()]);
        assert_eq!(table.text(), "NAME        ABOUT\nsão-paulo\nx           a\\u{1b}[31m\\nb\n");
    }
}
