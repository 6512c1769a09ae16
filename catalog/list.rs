//! The four lists, serialised once per revision, so that a page is one slice of bytes.

use erlmcp_protocol::mcp::Version;

use crate::wire::per_version;

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// `tools/list`.
    Tools,
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
}

/// One list in every revision.
pub(crate) struct Listing([Items; Version::COUNT]);

/// Item objects separated by commas, and where each one ends.
#[derive(Default)]
struct Items {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Listing {
    pub(crate) fn new<'a>(
        items: impl Iterator<Item = &'a [Vec<u8>; Version::COUNT]> + Clone,
    ) -> Listing {
        Listing(per_version(|version| {
            let mut list = Items::default();
            for item in items.clone() {
                if !list.bytes.is_empty() {
                    list.bytes.push(b',');
                }
                list.bytes.extend_from_slice(&item[version as usize]);
                list.ends.push(list.bytes.len());
            }
            list
        }))
    }

    /// The page of at most `page_size` items from item `offset` on, and where the next page starts.
    pub(crate) fn page(
        &self,
        version: Version,
        offset: u32,
        page_size: u32,
    ) -> Option<(&[u8], Option<u32>)> {
        let Items { bytes, ends } = &self.0[version as usize];
        let first = usize::try_from(offset).ok()?;
        if ends.len() < first {
            return None;
        }
        let count = usize::try_from(page_size.max(1)).unwrap_or(usize::MAX);
        let end = first.saturating_add(count).min(ends.len());
        if first == end {
            return Some((&[], None));
        }
        // Items are separated by one comma, so each but the first starts one byte after its neighbour's end.
        let from = if first == 0 { 0 } else { ends[first - 1] + 1 };
        let next = if end < ends.len() { u32::try_from(end).ok() } else { None };
        Some((&bytes[from..ends[end - 1]], next))
    }

    /// The newest revision's bytes, which hold all there is to say.
    pub(crate) fn newest(&self) -> &[u8] {
        &self.0[Version::COUNT - 1].bytes
    }
}
