//! The catalog served unless another is named, so that the first command works.

use crate::{Catalog, CatalogError};

/// A small catalog that shows each kind of item.
pub fn demo() -> Result<Catalog, CatalogError> {
    Catalog::builder().name("erlmcp-shard demo").build()
}
