//! The order in which every service is looked for: given by the environment, in a container, from package artefacts.

use std::future::Future;

use anyhow::Result;
use tokio::sync::OnceCell;

use crate::engine::Engine;
use crate::given::{self, Variable};
use crate::instance::{self, Launch, Lease};
use crate::missing::{self, Missing};

/// Where a service was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// Somebody else runs it; the value of its variable.
    Given(String),
    /// We run it for as long as the lease lives.
    Started(Lease),
}

/// Looks for one service, once per process.
pub(crate) async fn once<T: Clone>(
    cell: &OnceCell<Result<Option<T>, String>>,
    find: impl Future<Output = Result<Option<T>>>,
) -> Result<Option<T>> {
    let found = cell.get_or_init(|| async { find.await.map_err(|err| format!("{err:#}")) }).await;
    found.clone().map_err(anyhow::Error::msg)
}

/// Looks in the stated order.
pub(crate) async fn find<C: Launch, P: Launch>(
    service: &str,
    variable: Variable,
    container: impl FnOnce(Engine) -> C,
    packages: impl Future<Output = Result<P, Missing>>,
) -> Result<Option<Found>> {
    if let Some(value) = given::given(variable)? {
        given::check(variable, &value).await?;
        return Ok(Some(Found::Given(value)));
    }
    if let Some(engine) = Engine::find().await {
        match instance::shared(&container(engine)).await {
            Ok(lease) => return Ok(Some(Found::Started(lease))),
            Err(err) => missing::say(&format!("no {service} in a container, trying packages: {err:#}")),
        }
    }
    match packages.await {
        Ok(packages) => Ok(Some(Found::Started(instance::shared(&packages).await?))),
        Err(missing) => missing::without(service, &missing, Some(variable)),
    }
}
