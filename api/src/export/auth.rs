//! Who asks, and whether it may: the checks of the gateway, in its order (contract, gateway authorisation order). The key comes
//! first: without a valid one, nothing can be learned about which resources there are.

use std::sync::Arc;

use axum::http::HeaderMap;
use chrono::Utc;

use super::errors::Failure;
use super::tokens::{Caller, Verdict};
use super::{AGAIN, Export, Resource};

/// The header that holds the key.
pub(super) const KEY: &str = "api-key";

/// Where resources are.
pub(super) const BULK: &str = "/api/pis/bulk/";

/// The key: there, not used too often, valid.
pub(super) fn caller(export: &Export, headers: &HeaderMap) -> Result<Arc<Caller>, Failure> {
    let mut keys = headers.get_all(KEY).iter();
    let key = keys.next().filter(|key| !key.is_empty()).ok_or_else(Failure::key_missing)?;
    // Two keys may be two clients to a proxy and to us.
    let is_one = keys.next().is_none();
    // The same work for every key, whatever it begins with.
    let digest = export.pepper.digest(key.as_bytes());
    let verdict = export.tokens.check(&digest, Utc::now());
    let is_valid = is_one && matches!(verdict, Verdict::Valid(_));
    export.limits.request(&digest, is_valid).map_err(Failure::too_many_requests)?;
    match verdict {
        Verdict::Valid(caller) if is_one => Ok(caller),
        Verdict::Valid(_) | Verdict::Invalid => Err(Failure::key_invalid()),
        Verdict::Unknown => Err(Failure::unavailable("Api keys can't be checked at the moment", AGAIN)),
    }
}

/// The resource of a path, if there is one and the caller may read it.
pub(super) fn resource<'e>(
    export: &'e Export,
    caller: &Caller,
    path: &str,
) -> Result<(&'e str, &'e Resource), Failure> {
    let name = path.strip_prefix(BULK).unwrap_or_default();
    let found = export.options.resources.get_key_value(name);
    let (name, resource) = found.ok_or_else(|| Failure::no_rule(path))?;
    if !caller.may(&resource.scope) {
        return Err(Failure::missing_allowances(&[&resource.scope]));
    }
    Ok((name, resource))
}
