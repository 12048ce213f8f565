//! Lists in pages: [`Paging`].

use std::iter::Peekable;

use prost::Message;
use tonic::Status;

use super::{
    status::invalid,
    token::{Digest, Kind, Token},
};

/// Default page size.
const ITEMS_DEFAULT: usize = 100;

/// Most items of a page.
const ITEMS_MAX: usize = 1_000;

/// What the items of a page may take: clients of gRPC accept 4 MiB unless they are set up to accept
/// more, and one item can have hundreds of KiB.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// Which page is asked for.
pub(super) struct Paging {
    items_max: usize,
    /// The key of the last item of the page before.
    after: Option<Vec<u8>>,
    digest: Digest,
}

/// One page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// Empty on the last page.
    pub(super) next_page_token: String,
}

impl Paging {
    /// Validates a request's page size and token. The digest is that of the request without these
    /// two fields.
    pub(super) fn new(page_size: i32, page_token: &str, digest: Digest) -> Result<Self, Status> {
        let items_max = usize::try_from(page_size).map_err(|_| {
            let text = format!(
                "{page_size} is negative: give 0 for {ITEMS_DEFAULT}, or up to {ITEMS_MAX}"
            );
            invalid("page_size", text)
        })?;
        let items_max = match items_max {
            0 => ITEMS_DEFAULT,
            size => size.min(ITEMS_MAX),
        };
        let after = match page_token {
            "" => None,
            text => Some(last_key(text, digest)?),
        };
        Ok(Self {
            items_max,
            after,
            digest,
        })
    }

    /// The page, of what exists now: keys with what makes the item, in the order of the keys.
    pub(super) fn page<T: Message>(
        &self,
        all: impl IntoIterator<Item = (Vec<u8>, impl FnOnce() -> T)>,
    ) -> Page<T> {
        let is_past = |key: &Vec<u8>| self.after.as_ref().is_some_and(|after| key <= after);
        let mut rest = all
            .into_iter()
            .skip_while(|(key, _)| is_past(key))
            .map(|(key, item)| (key, item()))
            .peekable();
        let bytes = |(_, item): &(Vec<u8>, T)| item.encoded_len();
        let taken = take_fitting(&mut rest, self.items_max, BYTES_MAX, bytes);
        let next_page_token = match (rest.peek(), taken.last()) {
            (Some(_), Some((last, _))) => {
                let token = Token {
                    digest: self.digest,
                    content: last.clone(),
                };
                token.write(Kind::Page)
            }
            _ => String::new(),
        };
        Page {
            items: taken.into_iter().map(|(_, item)| item).collect(),
            next_page_token,
        }
    }
}

fn last_key(page_token: &str, digest: Digest) -> Result<Vec<u8>, Status> {
    let token = Token::read(Kind::Page, page_token).map_err(|_| {
        invalid(
            "page_token",
            "is damaged: give a next_page_token exactly as it was received, or begin without one",
        )
    })?;
    if token.digest == digest {
        Ok(token.content)
    } else {
        Err(invalid(
            "page_token",
            "belongs to another request: except for page_size, repeat the request of the page \
             before, or begin without a token",
        ))
    }
}

/// Takes items for as long as they fit, and the first one in any case.
pub(super) fn take_fitting<T>(
    rest: &mut Peekable<impl Iterator<Item = T>>,
    items_max: usize,
    bytes_max: usize,
    bytes: impl Fn(&T) -> usize,
) -> Vec<T> {
    let mut taken = Vec::new();
    let mut taken_bytes = 0;
    while taken.len() < items_max {
        let fits = |item: &T| taken.is_empty() || taken_bytes + bytes(item) <= bytes_max;
        let Some(item) = rest.next_if(fits) else {
            break;
        };
        taken_bytes += bytes(&item);
        taken.push(item);
    }
    taken
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::{Digest, ITEMS_DEFAULT, ITEMS_MAX, Page, Paging};

    fn digest(request: &str) -> Digest {
        Digest::of("ListThings", request.as_bytes())
    }

    /// One of so many items of so many bytes.
    fn page(count: usize, bytes: usize, page_size: i32, page_token: &str) -> Page<String> {
        let paging = Paging::new(page_size, page_token, digest("all")).unwrap();
        let all = (0..count).map(|number| {
            let key = format!("{number:05}");
            let item = format!("{key}{}", "x".repeat(bytes));
            (key.into_bytes(), move || item)
        });
        paging.page(all)
    }

    #[test]
    fn pages_cover_everything_once() {
        let mut seen = Vec::new();
        let mut token = String::new();
        loop {
            let page = page(7, 0, 3, &token);
            assert!(page.items.len() <= 3);
            seen.extend(page.items);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let all: Vec<_> = (0..7).map(|number| format!("{number:05}")).collect();
        assert_eq!(seen, all);
        assert_eq!(page(6, 0, 6, "").next_page_token, "", "full, and the last");
        assert_eq!(page(0, 0, 6, "").items, [""; 0]);
    }

    #[test]
    fn pages_have_a_default_and_a_limit() {
        assert_eq!(page(5_000, 0, 0, "").items.len(), ITEMS_DEFAULT);
        assert_eq!(page(5_000, 0, 5_000, "").items.len(), ITEMS_MAX);
    }

    #[test]
    fn large_items_make_short_pages() {
        let first = page(10, 900_000, 10, "");
        assert_eq!(first.items.len(), 2);
        let second = page(10, 900_000, 10, &first.next_page_token);
        assert!(second.items[0].starts_with("00002"));
        assert_eq!(page(3, 9_000_000, 10, "").items.len(), 1, "one in any case");
    }

    #[test]
    fn what_is_not_a_token_of_this_request_is_refused() {
        let token = page(7, 0, 3, "").next_page_token;
        let refused = |size, token: &str, request| {
            let status = Paging::new(size, token, digest(request)).err().unwrap();
            let request = status.get_details_bad_request().unwrap();
            request.field_violations[0].field.clone()
        };
        assert_eq!(refused(3, &token, "other"), "page_token");
        assert_eq!(refused(3, "00002", "all"), "page_token");
        assert_eq!(refused(-1, "", "all"), "page_size");
    }
}
