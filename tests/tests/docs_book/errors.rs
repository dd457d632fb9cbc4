//! The book's table of named errors is the code's.

use trama_sidecar::error::Reason;

use crate::pages;

#[test]
fn the_book_lists_every_reason_with_its_status_and_fault() {
    let page = pages::book().join("reference/errors.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let listed: Vec<Vec<String>> = rows
        .map(|row| {
            row.split('|').skip(1).take(3).map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        })
        .collect();
    let expected: Vec<Vec<String>> = Reason::ALL
        .iter()
        .map(|reason| {
            let fault = format!("{:?}", reason.fault()).to_lowercase();
            vec![reason.name().to_owned(), reason.status().as_str().to_owned(), fault]
        })
        .collect();
    assert_eq!(listed, expected, "{}", page.display());
}
