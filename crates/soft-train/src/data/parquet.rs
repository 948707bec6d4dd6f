//! Data files in Apache Parquet: a row is an object whose keys are the columns.

use std::fs::File;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::object::Object;
use super::reader::Reader;
use super::scan::Scan;
use crate::error::Error;

/// Most bytes that one column of a row group may unpack to: a small file must not fill the memory.
const MAX_COLUMN_BYTES: i64 = 1 << 30;

impl Reader<'_> {
    /// Reads a Parquet file; the line of an example is its row, from 1.
    pub(super) fn scan_parquet(&self, path: &Path) -> Result<Scan, Error> {
        let unreadable = |error: String| Error::Data {
            report: format!("cannot read data file {}: {error}", path.display()),
        };
        let broken = |error: ParquetError| unreadable(error.to_string());
        let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
        let reader = SerializedFileReader::new(file).map_err(broken)?;
        for group in reader.metadata().row_groups() {
            for column in group.columns() {
                let bytes = column.uncompressed_size();
                if !(0..=MAX_COLUMN_BYTES).contains(&bytes) {
                    return Err(unreadable(format!(
                        "column {} of a row group says that it unpacks to {bytes} bytes, expected \
                         at most {MAX_COLUMN_BYTES}: write smaller row groups",
                        column.column_path()
                    )));
                }
            }
        }
        let mut scan = Scan::new(path, self.format);
        for (row, number) in reader.get_row_iter(None).map_err(broken)?.zip(1..) {
            let object = Object::from_row(object(&row.map_err(broken)?));
            let (column, read) = self.example_of(&object, &mut scan.format)?;
            scan.add(number, column, read, self.limits, self.long);
        }
        Ok(scan)
    }
}

/// A row as a JSON object; empty cells are left out.
fn object(row: &Row) -> Map<String, Value> {
    let cells = row.get_column_iter().filter(|(_, cell)| !matches!(cell, Field::Null));
    cells.map(|(name, cell)| (name.clone(), value(cell))).collect()
}

/// A cell; kinds that no format has, such as dates, are none.
fn value(cell: &Field) -> Value {
    match cell {
        Field::Null => Value::Null,
        Field::Bool(yes) => (*yes).into(),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float(number) => (*number).into(),
        Field::Double(number) => (*number).into(),
        Field::Str(text) => text.clone().into(),
        Field::Group(row) => object(row).into(),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        // Dates, decimals, bytes, maps.
        _ => Value::Null,
    }
}
