//! Snapshots in an object store: what their writer and their readers agree on. A snapshot is written by `sinks::snapshot`, and
//! served by `api`; both meet here, as producers and sinks meet in the log.
//!
//! Below a store's folder (its *prefix*):
//!
//! ```text
//! generations/00000042.json                          a manifest: created last, never changed
//! data/00000042-5f3c9e1a/employees/full.parquet      objects, named by manifests alone; never changed either
//! data/00000042-5f3c9e1a/employees/full.json.gz
//! lease.json                                         who is writing; spares work, decides nothing
//! ```
//!
//! A generation exists from the moment its manifest does ([`Store::publish`]: a conditional create, so that of two writers one
//! wins). A reader takes the manifest with the highest number and then only what that names: it can't see half a snapshot, nor
//! mix two. [`manifest`] has what a manifest says, [`list`] how records are laid out in JSON objects so that they can be served
//! by copying bytes, [`splice`] how that is done.

mod coder;
pub mod list;
pub mod manifest;
pub mod splice;
mod store;

pub use self::manifest::{Coding, Dataset, Days, Earlier, Form, Generation, Items, Manifest, Object, Set, Window};
pub use self::store::{Published, Store, StoreError, StoreSettings, failed, private_folder};
