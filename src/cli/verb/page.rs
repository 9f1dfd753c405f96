//! Lists, page after page.

use crate::cli::failure::Failure;

/// How many things a page holds when nobody says how many: few round trips, and messages of a bearable size.
pub(super) const SIZE: i32 = 500;

/// A page: what is on it, and the token of the next; empty at the end.
pub(super) type Page<T> = (Vec<T>, String);

/// What all pages hold together, or the first `most` of it. `ask` takes the token of a page.
pub(super) async fn all<T>(
    most: usize,
    mut ask: impl AsyncFnMut(String) -> Result<Page<T>, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let (page, next) = ask(token.clone()).await?;
        all.extend(page);
        if next.is_empty() || all.len() >= most {
            all.truncate(most);
            return Ok(all);
        }
        // Would never end.
        if next == token {
            return Err(Failure::Encoding("a page's next page is itself".to_owned()));
        }
        token = next;
    }
}
