//! Data files in Apache Parquet: a row is an object whose keys are the columns.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
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
        let file_len = file.metadata().map_err(|error| unreadable(error.to_string()))?.len();
        let reader = guarded(|| SerializedFileReader::new(file)).and_then(|reader| reader);
        let reader = reader.map_err(broken)?;
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
        check_places(reader.metadata(), file_len).map_err(unreadable)?;
        let mut scan = Scan::new(path, self.format);
        let rows = guarded(|| reader.get_row_iter(None)).and_then(|rows| rows);
        let mut rows = rows.map_err(broken)?;
        for number in 1.. {
            let Some(row) = guarded(|| rows.next()).map_err(broken)? else { break };
            let object = Object::from_row(object(&row.map_err(broken)?));
            let (column, read) = self.example_of(&object, &mut scan.format)?;
            scan.add(number, column, read, self.limits, self.long);
        }
        Ok(scan)
    }
}

/// The library panics on some pages that contradict one another, as it does on places below 0.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        ParquetError::General("its parts contradict one another: it is damaged".into())
    })
}

/// Every column lies in the file: the library panics at a place below 0.
fn check_places(metadata: &ParquetMetaData, file_len: u64) -> Result<(), String> {
    for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        let begin = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let end =
            begin.checked_add(column.compressed_size()).and_then(|end| u64::try_from(end).ok());
        if begin < 0 || column.compressed_size() < 0 || end.is_none_or(|end| end > file_len) {
            return Err(format!(
                "column {} says that it has {} bytes at byte {begin}, the file has {file_len}: it is \
                 truncated or corrupt",
                column.column_path(),
                column.compressed_size()
            ));
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    const MESSAGES: &str = "message m { optional group messages (LIST) { repeated group list { \
        optional group element { optional binary role (UTF8); optional binary content (UTF8); } } } }";

    /// A file of one row; each column holds one text.
    fn write(schema: &str, texts: &[&str], levels: (i16, i16)) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.parquet");
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().build());
        let file = File::create(&path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for text in texts {
            let mut column = group.next_column().unwrap().unwrap();
            let values = [ByteArray::from(*text)];
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(&values, Some(&[levels.0]), Some(&[levels.1])).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        (folder, path)
    }

    #[test]
    fn t33_nested_messages_are_a_list_of_objects() {
        let (_folder, path) = write(MESSAGES, &["user", "hi"], (4, 0));
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let row = reader.get_row_iter(None).unwrap().next().unwrap().unwrap();
        let expected = serde_json::json!({"messages": [{"role": "user", "content": "hi"}]});
        assert_eq!(Value::from(object(&row)), expected);
    }

    /// The file with another size in its footer, to which its only column says that it unpacks.
    fn announce(path: &Path, bytes: i64) {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&File::open(path).unwrap());
        let metadata = metadata.unwrap();
        let group = metadata.row_group(0).clone();
        let column = group.column(0).clone().into_builder();
        let column = column.set_total_uncompressed_size(bytes).build().unwrap();
        let group = group.into_builder().set_column_metadata(vec![column]).build().unwrap();
        let metadata = metadata.into_builder().set_row_groups(vec![group]).build();
        let mut file = fs::read(path).unwrap();
        let (_, end) = file.split_at(file.len() - 8);
        let footer = u32::from_le_bytes(end[..4].try_into().unwrap()) as usize;
        file.truncate(file.len() - 8 - footer);
        ParquetMetaDataWriter::new(&mut file, &metadata).finish().unwrap();
        fs::write(path, file).unwrap();
    }

    #[test]
    fn t33_a_column_that_would_unpack_to_gigabytes_is_refused_before_it_is_read() {
        let column = "message m { optional binary text (UTF8); }";
        for bytes in [MAX_COLUMN_BYTES + 1, i64::MAX, -1] {
            let (_folder, path) = write(column, &["a"], (1, 0));
            announce(&path, MAX_COLUMN_BYTES);
            // It needs a tokenizer, which is to say that the file itself is read.
            assert_eq!(Reader::default().scan(&path).unwrap_err().exit_code(), 2);
            announce(&path, bytes);
            let error = Reader::default().scan(&path).unwrap_err();
            assert_eq!(error.exit_code(), 3);
            let text = error.to_string();
            let expected =
                format!("column \"text\" of a row group says that it unpacks to {bytes} bytes");
            assert!(text.contains(&expected) && text.contains("at most 1073741824"), "{text}");
        }
    }

    #[test]
    fn t33_a_file_cut_or_changed_at_any_byte_is_an_error_or_read_and_never_a_panic() {
        let (_folder, path) = write("message m { optional binary ids (UTF8); }", &["a"], (1, 0));
        let whole = fs::read(&path).unwrap();
        let scan = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            Reader::default().scan(&path)
        };
        for at in 0..whole.len() {
            let error = scan(&whole[..at]).unwrap_err();
            assert_eq!(error.exit_code(), 3, "cut at {at}: {error}");
            for change in [0x01, 0x55, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= change;
                if let Err(error) = scan(&changed) {
                    assert!(matches!(error.exit_code(), 2 | 3), "changed at {at}: {error}");
                }
            }
        }
    }

    #[test]
    fn t33_missing_columns_wrong_types_and_cut_files_are_data_errors() {
        let column = |name: &str| format!("message m {{ optional binary {name} (UTF8); }}");
        let (_folder, path) = write(&column("txt"), &["a"], (1, 0));
        let scan = Reader::default().scan(&path).unwrap();
        assert_eq!(scan.bad_count, 1);
        assert!(scan.bad[0].problem.contains("found `txt`"), "{}", scan.bad_report());
        let (_folder, path) = write(&column("ids"), &["a"], (1, 0));
        let scan = Reader::default().scan(&path).unwrap();
        assert!(scan.bad[0].problem.contains("`ids` is text, expected a list"));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 9]).unwrap();
        let error = Reader::default().scan(&path).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("data.parquet"), "{error}");
    }
}
