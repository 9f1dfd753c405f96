//! Pages of lists (AIP-158): how many, and where the next one begins.
//!
//! A token is opaque. It holds where the last page ended and a digest of the rest of the request, so that a token of another
//! request, or one that was made up, is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::error::Error;
use super::etag;
use crate::store::Key;

/// page_size unless given.
const DEFAULT_SIZE: usize = 50;

/// The most that one page holds: a thousand rollouts fit a message by far.
const MAX_SIZE: usize = 1000;

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// How many at most.
    pub size: usize,
    /// What it comes after; `None` for the first.
    pub after: Option<Key>,
    /// A digest of the request without size and token.
    binding: String,
}

impl Page {
    /// Reads page_size and page_token of a request; `others` are all its other fields.
    pub(super) fn read(size: i32, token: &str, others: &[&str]) -> Result<Self, Error> {
        let size = match usize::try_from(size) {
            Ok(0) => DEFAULT_SIZE,
            Ok(size) => size.min(MAX_SIZE),
            Err(_) => return Err(Error::field("page_size", format!("{size} is negative"))),
        };
        let binding = etag::digest(&json!(others));
        let after = if token.is_empty() { None } else { Some(after(token, &binding)?) };
        Ok(Self { size, after, binding })
    }

    /// The token of the page after this one, where one more than its size was looked for and `found` were; empty at the end.
    pub(super) fn next(&self, found: usize, last: Option<&Key>) -> String {
        match last {
            Some(last) if found > self.size => {
                URL_SAFE_NO_PAD.encode(json!([self.binding, last.namespace, last.name]).to_string())
            }
            _ => String::new(),
        }
    }
}

fn after(token: &str, binding: &str) -> Result<Key, Error> {
    let bad = |why: &str| {
        Error::field("page_token", format!("{why}: send next_page_token as it was given, or nothing"))
    };
    let json = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad("is not a token of this server"))?;
    let (made_for, namespace, name): (String, String, String) =
        serde_json::from_slice(&json).map_err(|_| bad("is not a token of this server"))?;
    if made_for != binding {
        return Err(bad("belongs to another request"));
    }
    Ok(Key::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_the_next_page_of_the_same_request() {
        let page = Page::read(2, "", &["namespaces/-", ""]).unwrap();
        let last = Key::new("shop", "web");
        let token = page.next(3, Some(&last));
        let next = Page::read(5, &token, &["namespaces/-", ""]).unwrap();
        assert_eq!((next.size, next.after), (5, Some(last.clone())));
        assert_eq!(page.next(2, Some(&last)), "");
        for others in [["namespaces/shop", ""], ["namespaces/-", "a=b"]] {
            assert!(Page::read(2, &token, &others).unwrap_err().message().contains("another request"));
        }
    }

    #[test]
    fn sizes_have_a_default_and_a_limit() {
        let size = |size| Page::read(size, "", &[]).map(|page| page.size);
        assert_eq!((size(0).unwrap(), size(7).unwrap(), size(5000).unwrap()), (50, 7, 1000));
        assert!(size(-1).is_err());
    }

    #[test]
    fn a_made_up_token_is_refused() {
        for token in ["x", "!!", "bm90IGpzb24", &URL_SAFE_NO_PAD.encode("[1,2,3]")] {
            assert!(Page::read(2, token, &[]).is_err(), "{token}");
        }
    }
}
