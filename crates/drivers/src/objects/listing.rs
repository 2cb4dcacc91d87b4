//! One page of a listing: the keys of all layers in one order, those behind a delimiter folded into common prefixes.

use std::collections::VecDeque;

use sqlx::{Sqlite, Transaction};

use super::index::{Index, Object, ObjectRow};
use super::layers::chain;
use super::trouble::Trouble;

/// What a listing covers.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    /// Keys begin with it.
    pub(super) prefix: Vec<u8>,
    /// Keys with it behind the prefix are folded; empty: none are.
    pub(super) delimiter: Vec<u8>,
    /// Keys up to and including it are left out, and if it is a common prefix, all that it stands for.
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
    /// One page. Costs as many rows as it has entries and deleted keys, however many keys a common prefix stands for.
    pub(super) async fn page(&self, generation: i64, query: &Query) -> Result<Page, Trouble> {
        let mut page = Page::default();
        if query.limit == 0 {
            return Ok(page);
        }
        // One view of all layers: between two reads, rows may move from one to another.
        let mut tx = self.read.begin().await?;
        let mut merged = Merged::open(&mut tx, generation, query).await?;
        let mut last = None;
        while let Some((key, object)) = merged.next(&mut tx).await? {
            if page.objects.len() + page.prefixes.len() == query.limit {
                page.next = last;
                return Ok(page);
            }
            if let Some(folded) = query.fold(&key) {
                merged.skip_to(&above(&folded));
                last = Some(folded.clone());
                page.prefixes.push(folded);
            } else {
                last = Some(key.clone());
                page.objects.push((key, object));
            }
        }
        Ok(page)
    }
}

/// The key, and what an [`ObjectRow`] has.
type KeyedRow = (Vec<u8>, Option<String>, i64, String, i64, String);

/// One layer, read from front to back.
struct Cursor {
    layer: i64,
    /// Where the next read begins.
    from: Vec<u8>,
    ahead: VecDeque<(Vec<u8>, ObjectRow)>,
    /// Nothing is left behind what is ahead.
    read_up: bool,
}

/// What a generation sees in all of its layers, in order of keys: of each the uppermost row, unless that is a marker.
struct Merged {
    /// The uppermost first.
    cursors: Vec<Cursor>,
    below: Vec<u8>,
    batch: usize,
}

impl Merged {
    async fn open(tx: &mut Transaction<'static, Sqlite>, generation: i64, query: &Query) -> Result<Merged, Trouble> {
        let layers: Vec<(i64,)> = sqlx::query_as(chain!("SELECT layer FROM chain ORDER BY depth"))
            .bind(generation)
            .fetch_all(&mut **tx)
            .await?;
        let from = query.start();
        let cursor = |(layer,)| Cursor { layer, from: from.clone(), ahead: VecDeque::new(), read_up: false };
        let batch = if query.delimiter.is_empty() { query.limit + 1 } else { 64 };
        Ok(Merged { cursors: layers.into_iter().map(cursor).collect(), below: above(&query.prefix), batch })
    }

    async fn next(&mut self, tx: &mut Transaction<'static, Sqlite>) -> Result<Option<(Vec<u8>, Object)>, Trouble> {
        loop {
            for cursor in &mut self.cursors {
                cursor.fill(tx, &self.below, self.batch).await?;
            }
            let heads = self.cursors.iter().filter_map(|cursor| cursor.ahead.front().map(|(key, _)| key));
            let Some(least) = heads.min().cloned() else { return Ok(None) };
            let mut seen = None;
            for cursor in &mut self.cursors {
                if let Some((_, row)) = cursor.ahead.pop_front_if(|(key, _)| *key == least) {
                    seen.get_or_insert(row);
                }
            }
            if let Some(object) = seen.map(Object::from_row).transpose()?.flatten() {
                return Ok(Some((least, object)));
            }
        }
    }

    /// Leaves out what lies before `key`.
    fn skip_to(&mut self, key: &[u8]) {
        for cursor in &mut self.cursors {
            while cursor.ahead.pop_front_if(|(ahead, _)| ahead.as_slice() < key).is_some() {}
            if cursor.ahead.is_empty() && !cursor.read_up {
                cursor.from = key.to_vec();
            }
        }
    }
}

impl Cursor {
    async fn fill(&mut self, tx: &mut Transaction<'static, Sqlite>, below: &[u8], batch: usize) -> Result<(), Trouble> {
        if self.read_up || !self.ahead.is_empty() {
            return Ok(());
        }
        let rows: Vec<KeyedRow> = sqlx::query_as(
            "SELECT key, blob, size, etag, modified, meta FROM objects
             WHERE layer = ? AND key >= ? AND key < ? ORDER BY key LIMIT ?",
        )
        .bind(self.layer)
        .bind(&self.from)
        .bind(below)
        .bind(i64::try_from(batch).unwrap_or(i64::MAX))
        .fetch_all(&mut **tx)
        .await?;
        self.read_up = rows.len() < batch;
        if let Some((last, ..)) = rows.last() {
            self.from = [last.as_slice(), &[0]].concat();
        }
        self.ahead.extend(
            rows.into_iter().map(|(key, blob, size, etag, modified, meta)| (key, (blob, size, etag, modified, meta))),
        );
        Ok(())
    }
}
