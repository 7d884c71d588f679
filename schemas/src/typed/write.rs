//! A serde serializer that writes Avro straight from the plan of a schema. Called by [`super::to_avro`].
//!
//! What it writes passes [`crate::check`]. `out` holds what was written before an error: the caller cuts it off.

use serde::{Serialize, Serializer, ser::Impossible};

use super::{
    composite::{Entries, Fields, Items},
    fault::Fault,
};
use crate::{
    cursor::Cursor,
    encode::{put_bytes, put_long, shortest, unscaled},
    malformed::Malformed,
    schema::Kind,
};

pub(super) struct ValueWriter<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) kind: &'a Kind,
    pub(super) null_branch: Option<u8>,
}

impl<'a> ValueWriter<'a> {
    /// The union's branch, when there is a union.
    fn begin(&mut self) {
        if let Some(null_branch) = self.null_branch {
            put_long(self.out, i64::from(1 - null_branch));
        }
    }

    fn mismatch<T>(&self, given: &str) -> Result<T, Fault> {
        Err(Fault::misfit(format!("{given}, where the schema has {}", self.kind)))
    }

    /// A value of the right type that its field can't hold.
    fn refused(&self, reason: impl Into<String>) -> Fault {
        Malformed::new(self.out.len(), reason).into()
    }

    /// Asks the decoder, which knows the ranges, whether what was written from `start` on can be read.
    fn checked(self, start: usize) -> Result<(), Fault> {
        match Cursor::new(&self.out[start..]).scalar(self.kind) {
            Ok(_) => Ok(()),
            Err(fault) => Err(Malformed { at: start + fault.at, ..fault }.into()),
        }
    }

    fn integer(mut self, n: i64) -> Result<(), Fault> {
        let raw = match self.kind {
            Kind::Int | Kind::Long | Kind::Date | Kind::TimestampMicros | Kind::LocalTimestampMicros => n,
            Kind::TimestampMillis | Kind::LocalTimestampMillis if n % 1000 == 0 => n / 1000,
            Kind::TimestampMillis | Kind::LocalTimestampMillis => return Err(self.refused("finer than a millisecond")),
            _ => return self.mismatch("a whole number"),
        };
        self.begin();
        let start = self.out.len();
        put_long(self.out, raw);
        self.checked(start)
    }

    fn null(self) -> Result<(), Fault> {
        let Some(null_branch) = self.null_branch else { return self.mismatch("null") };
        put_long(self.out, i64::from(null_branch));
        Ok(())
    }

    fn items(mut self) -> Result<Items<'a>, Fault> {
        let Kind::Array(item) = self.kind else { return self.mismatch("a list") };
        self.begin();
        Ok(Items::new(self.out, item))
    }
}

impl<'a> Serializer for ValueWriter<'a> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Items<'a>;
    type SerializeTuple = Items<'a>;
    type SerializeTupleStruct = Items<'a>;
    type SerializeTupleVariant = Impossible<(), Fault>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Impossible<(), Fault>;

    fn serialize_bool(mut self, b: bool) -> Result<(), Fault> {
        let Kind::Boolean = self.kind else { return self.mismatch("true or false") };
        self.begin();
        self.out.push(u8::from(b));
        Ok(())
    }

    fn serialize_i8(self, n: i8) -> Result<(), Fault> {
        self.integer(i64::from(n))
    }

    fn serialize_i16(self, n: i16) -> Result<(), Fault> {
        self.integer(i64::from(n))
    }

    fn serialize_i32(self, n: i32) -> Result<(), Fault> {
        self.integer(i64::from(n))
    }

    fn serialize_i64(self, n: i64) -> Result<(), Fault> {
        self.integer(n)
    }

    fn serialize_u8(self, n: u8) -> Result<(), Fault> {
        self.integer(i64::from(n))
    }

    fn serialize_u16(self, n: u16) -> Result<(), Fault> {
        self.integer(i64::from(n))
    }

    fn serialize_u32(self, n: u32) -> Result<(), Fault> {
        self.integer(i64::from(n))
    }

    fn serialize_u64(self, n: u64) -> Result<(), Fault> {
        match i64::try_from(n) {
            Ok(n) => self.integer(n),
            Err(_) => Err(self.refused("a number longer than 64 bits")),
        }
    }

    fn serialize_f32(mut self, x: f32) -> Result<(), Fault> {
        match self.kind {
            Kind::Float => {
                self.begin();
                self.out.extend_from_slice(&x.to_le_bytes());
                Ok(())
            }
            _ => self.serialize_f64(f64::from(x)),
        }
    }

    fn serialize_f64(mut self, x: f64) -> Result<(), Fault> {
        let Kind::Double = self.kind else { return self.mismatch("a floating-point number") };
        self.begin();
        self.out.extend_from_slice(&x.to_le_bytes());
        Ok(())
    }

    fn serialize_char(self, c: char) -> Result<(), Fault> {
        self.serialize_str(c.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(mut self, text: &str) -> Result<(), Fault> {
        match self.kind {
            Kind::String | Kind::Json => {
                self.begin();
                put_bytes(self.out, text.as_bytes());
                Ok(())
            }
            Kind::Uuid => {
                self.begin();
                let start = self.out.len();
                put_bytes(self.out, text.as_bytes());
                self.checked(start)
            }
            Kind::Enum(symbols) => {
                let Some(index) = symbols.iter().position(|symbol| symbol == text) else {
                    return Err(self.refused("a symbol the enum doesn't have"));
                };
                self.begin();
                put_long(self.out, index as i64);
                Ok(())
            }
            Kind::Decimal { scale, .. } => {
                let Some(unscaled) = unscaled(text, *scale) else {
                    return Err(self.refused(format!("not a decimal with up to {scale} digits behind the point")));
                };
                self.begin();
                let start = self.out.len();
                put_bytes(self.out, shortest(&unscaled.to_be_bytes()));
                self.checked(start)
            }
            _ => self.mismatch("text"),
        }
    }

    fn serialize_bytes(mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Kind::Bytes = self.kind else { return self.mismatch("bytes") };
        self.begin();
        put_bytes(self.out, bytes);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Fault> {
        self.null()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Fault> {
        self.null()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Fault> {
        self.mismatch("a struct without fields")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Fault> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Fault> {
        self.mismatch("a variant with contents")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'a>, Fault> {
        self.items()
    }

    fn serialize_tuple(self, _: usize) -> Result<Items<'a>, Fault> {
        self.items()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'a>, Fault> {
        self.items()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Fault>, Fault> {
        self.mismatch("a variant with contents")
    }

    fn serialize_map(mut self, _: Option<usize>) -> Result<Entries<'a>, Fault> {
        match self.kind {
            Kind::Map(item) => {
                self.begin();
                Ok(Entries::of_map(self.out, item))
            }
            Kind::Record(record) => {
                self.begin();
                Ok(Entries::of_record(self.out, record))
            }
            _ => self.mismatch("a map"),
        }
    }

    fn serialize_struct(mut self, _: &'static str, _: usize) -> Result<Fields<'a>, Fault> {
        let Kind::Record(record) = self.kind else { return self.mismatch("a struct") };
        self.begin();
        Ok(Fields::new(self.out, record))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Impossible<(), Fault>, Fault> {
        self.mismatch("a variant with contents")
    }
}
