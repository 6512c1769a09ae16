//! The fixtures of the official conformance suite.

use crate::{Catalog, CatalogError};

/// Every fixture of the suite.
pub fn everything() -> Result<Catalog, CatalogError> {
    Catalog::builder().name("erlmcp-shard everything").build()
}
