//! A processor without its types, as the runner holds it.

use std::any::Any;
use std::sync::Arc;

use schemas::Key;

use crate::processor::{Group, Input, Outputs, Processor, Row};
use crate::reject::{Reason, Reject};

/// Any [`Processor`].
pub trait AnyProcessor: Send + Sync {
    /// See [`Processor::name`].
    fn name(&self) -> &'static str;
    /// See [`Processor::version`].
    fn version(&self) -> u32;
    /// See [`Processor::inputs`].
    fn inputs(&self) -> &'static [&'static str];
    /// See [`Processor::tables`].
    fn tables(&self) -> &'static [&'static str];
    /// See [`Processor::outputs`].
    fn outputs(&self) -> &'static [&'static str];
    /// See [`Processor::one_group`].
    fn one_group(&self) -> bool;
    /// See [`Processor::arrange`].
    fn arrange(&self, rows: &[Row], rejects: &mut Vec<Reject>) -> Arc<dyn Any + Send + Sync>;
    /// Decodes a group's inputs and derives its outputs.
    fn derive(&self, key: &Key, rows: &[&Row], tables: &(dyn Any + Send + Sync)) -> Result<Outputs, Reject>;
}

impl<P: Processor> AnyProcessor for P
where
    P::Tables: 'static,
{
    fn name(&self) -> &'static str {
        Processor::name(self)
    }

    fn version(&self) -> u32 {
        Processor::version(self)
    }

    fn inputs(&self) -> &'static [&'static str] {
        Processor::inputs(self)
    }

    fn tables(&self) -> &'static [&'static str] {
        Processor::tables(self)
    }

    fn outputs(&self) -> &'static [&'static str] {
        Processor::outputs(self)
    }

    fn one_group(&self) -> bool {
        Processor::one_group(self)
    }

    fn arrange(&self, rows: &[Row], rejects: &mut Vec<Reject>) -> Arc<dyn Any + Send + Sync> {
        Arc::new(Processor::arrange(self, rows, rejects))
    }

    fn derive(&self, key: &Key, rows: &[&Row], tables: &(dyn Any + Send + Sync)) -> Result<Outputs, Reject> {
        let Some(tables) = tables.downcast_ref::<P::Tables>() else {
            let reason = Reason::new("internal", "the reference tables belong to another processor");
            return Err(Reject::new(Some(key.clone()), reason, bytes::Bytes::new()));
        };
        let mut inputs = Vec::with_capacity(rows.len());
        for row in rows {
            let value = self.decode(row)?;
            inputs.push(Input { topic: Arc::clone(&row.topic), key: row.key.clone(), value });
        }
        let mut outputs = Outputs::default();
        Processor::derive(self, &Group { key: key.clone(), inputs }, tables, &mut outputs)?;
        Ok(outputs)
    }
}
