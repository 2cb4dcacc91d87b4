//! One page of a listing: keys in order, those behind a delimiter folded into common prefixes.

use super::index::{Index, Object, ObjectRow};
use super::trouble::Trouble;

/// What a listing covers.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    /// Keys begin with it.
    pub(super) prefix: Vec<u8>,
    /// Keys with it behind the prefix are folded; empty: none are.
    pub(super) delimiter: Vec<u8>,
    /// Keys and common prefixes up to and including it are left out.
    pub(super) after: Option<Vec<u8>>,
    /// At most so many keys and common prefixes.
    pub(super) limit: usize,
}

/// What a listing found.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<(Vec<u8>, Object)>,
    pub(super) prefixes: Vec<Vec<u8>>,
    /// There is more: the last key or common prefix of this page, from where the next goes on.
    pub(super) next: Option<Vec<u8>>,
}

/// Keys are UTF-8, in which this byte does not occur, and at most 1,024 bytes long: it lies above them all.
const ABOVE_ALL: [u8; 1] = [0xff];

/// The least bytes that lie above everything that begins with `prefix`.
pub(super) fn above(prefix: &[u8]) -> Vec<u8> {
    let mut bound = prefix.to_vec();
    while let Some(last) = bound.pop() {
        if last < 0xff {
            bound.push(last + 1);
            return bound;
        }
    }
    ABOVE_ALL.to_vec()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() { None } else { haystack.windows(needle.len()).position(|window| window == needle) }
}

impl Query {
    /// The common prefix that a key is folded into.
    fn fold(&self, key: &[u8]) -> Option<Vec<u8>> {
        let rest = key.strip_prefix(self.prefix.as_slice())?;
        let end = self.prefix.len() + find(rest, &self.delimiter)? + self.delimiter.len();
        Some(key[..end].to_vec())
    }

    /// Where to begin.
    fn start(&self) -> Vec<u8> {
        let Some(after) = &self.after else { return self.prefix.clone() };
        let next = if self.fold(after).as_ref() == Some(after) { above(after) } else { [after, &[0][..]].concat() };
        next.max(self.prefix.clone())
    }
}

impl Index {
    /// One page. Costs as many rows as it has entries, however many keys a common prefix stands for.
    pub(super) async fn page(&self, generation: i64, query: &Query) -> Result<Page, Trouble> {
        let (mut page, mut from, below) = (Page::default(), query.start(), above(&query.prefix));
        if query.limit == 0 {
            return Ok(page);
        }
        let mut last = None;
        let batch = if query.delimiter.is_empty() { query.limit + 1 } else { 64 };
        loop {
            let rows = self.rows(generation, &from, &below, batch).await?;
            let full = rows.len() == batch;
            for (key, row) in rows {
                if key < from {
                    continue; // within a common prefix that this page has already
                }
                if page.objects.len() + page.prefixes.len() == query.limit {
                    page.next = last;
                    return Ok(page);
                }
                if let Some(folded) = query.fold(&key) {
                    from = above(&folded);
                    last = Some(folded.clone());
                    page.prefixes.push(folded);
                } else {
                    from = [key.as_slice(), &[0]].concat();
                    last = Some(key.clone());
                    page.objects.push((key, Object::from_row(row)?));
                }
            }
            if !full {
                return Ok(page);
            }
        }
    }

    async fn rows(
        &self,
        generation: i64,
        from: &[u8],
        below: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, ObjectRow)>, Trouble> {
        let rows: Vec<(Vec<u8>, String, i64, String, i64, String)> = sqlx::query_as(
            "SELECT key, blob, size, etag, modified, meta FROM objects
             WHERE generation = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?",
        )
        .bind(generation)
        .bind(from)
        .bind(below)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.read)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(key, blob, size, etag, modified, meta)| (key, (blob, size, etag, modified, meta)))
            .collect())
    }
}
