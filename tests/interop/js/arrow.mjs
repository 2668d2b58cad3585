// What the JavaScript implementation of Arrow makes of IPC streams and files.
//
//   node arrow.mjs dump FILE                   every value of every batch, as JSON
//   node arrow.mjs rewrite FILE stream|file    reads FILE and writes it again, to standard output
//   node arrow.mjs make stream|file            writes batches built here, to standard output
//
// Values are dumped as they lie in memory, so that nothing is lost on the way through JavaScript's numbers: what has
// a fixed width and what is bytes or text in hexadecimal, the rest as arrays; null where a value is missing.
import { readFileSync, writeFileSync } from 'node:fs';
import * as arrow from 'apache-arrow';

const { DataType } = arrow;

function hex(bytes) {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

function widthOf(type) {
  if (DataType.isInt(type)) return type.bitWidth / 8;
  if (DataType.isFloat(type)) return [2, 4, 8][type.precision];
  if (DataType.isDecimal(type)) return type.bitWidth / 8;
  if (DataType.isDate(type)) return [4, 8][type.unit];
  if (DataType.isTime(type)) return type.bitWidth / 8;
  if (DataType.isTimestamp(type) || DataType.isDuration(type)) return 8;
  if (DataType.isInterval(type)) return [4, 8, 16][type.unit];
  if (DataType.isFixedSizeBinary(type)) return type.byteWidth;
  throw new Error(`no width is known for ${type}`);
}

function many(data, from, to) {
  return Array.from({ length: to - from }, (_, i) => show(data, from + i));
}

function fromVector(vector, index) {
  let at = index;
  for (const data of vector.data) {
    if (at < data.length) return show(data, at);
    at -= data.length;
  }
  throw new Error(`code ${index} lies behind a dictionary of ${vector.length}`);
}

function showUnion(data, index) {
  const id = data.typeIds[index];
  const child = data.children[data.type.typeIdToChildIndex[id]];
  return [id, show(child, DataType.isDenseUnion(data.type) ? data.valueOffsets[index] : index)];
}

function show(data, index) {
  const { type } = data;
  if (DataType.isUnion(type)) return showUnion(data, index);
  if (DataType.isNull(type) || !data.getValid(index)) return null;
  if (DataType.isDictionary(type)) return fromVector(data.dictionary, Number(data.values[index]));
  if (DataType.isBool(type)) return ((data.values[index >> 3] >> (index & 7)) & 1) === 1;
  if (DataType.isStruct(type)) return data.children.map((child) => show(child, index));
  if (DataType.isFixedSizeList(type)) return many(data.children[0], index * type.listSize, (index + 1) * type.listSize);
  if (data.valueOffsets?.length > 0) {
    const [from, to] = [Number(data.valueOffsets[index]), Number(data.valueOffsets[index + 1])];
    return data.children.length > 0 ? many(data.children[0], from, to) : hex(data.values.subarray(from, to));
  }
  const width = widthOf(type);
  return hex(new Uint8Array(data.values.buffer, data.values.byteOffset + index * width, width));
}

function dump(path) {
  const reader = arrow.RecordBatchReader.from(readFileSync(path)).open();
  const { schema } = reader; // gone once the last batch was read
  const batches = [];
  for (const batch of reader) batches.push(batch.data.children.map((column) => many(column, 0, batch.numRows)));
  const fields = schema.fields.map((f) => [f.name, f.nullable, Object.fromEntries(f.metadata)]);
  writeFileSync(1, JSON.stringify({ fields, metadata: Object.fromEntries(schema.metadata), batches }));
}

function write(table, format) {
  writeFileSync(1, arrow.tableToIPC(table, format));
}

function make(format) {
  const { vectorFromArray: of } = arrow;
  const item = new arrow.Field('item', new arrow.Float64(), true);
  const columns = {
    u8: of([1, null, 255], new arrow.Uint8()),
    i64: of([-(2n ** 63n), 2n ** 63n - 1n, null], new arrow.Int64()),
    f32: of([0.5, null, -Infinity], new arrow.Float32()),
    flag: of([true, null, false], new arrow.Bool()),
    text: of(['', 'ß日本🜨', null], new arrow.Utf8()),
    when: of([new Date(1e12), null, new Date(0)], new arrow.TimestampMillisecond('UTC')),
    list: of([[1, null], [], null], new arrow.List(item)),
    pair: of([[1, 2], null, [3, null]], new arrow.FixedSizeList(2, item)),
    word: of(['low', 'high', null], new arrow.Dictionary(new arrow.Utf8(), new arrow.Int16())),
  };
  const table = new arrow.Table(columns);
  write(new arrow.Table([...table.batches, ...table.slice(1).batches]), format);
}

const [command, ...rest] = process.argv.slice(2);
if (command === 'dump') dump(rest[0]);
else if (command === 'rewrite') write(arrow.tableFromIPC(readFileSync(rest[0])), rest[1]);
else if (command === 'make') make(rest[0]);
else throw new Error(`unknown command ${command}`);
