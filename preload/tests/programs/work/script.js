// JSON, buffers, strings, and workers that hand them over.
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { createHash } = require('node:crypto');
const { deflateSync, inflateSync } = require('node:zlib');

const digest = (data) => createHash('sha256').update(data).digest('hex').slice(0, 16);

function buffers(seed) {
  const hash = createHash('sha256');
  let kept = [];
  for (let i = 0; i < 4000; i++) {
    const buffer = Buffer.allocUnsafeSlow(1 + ((seed * i * 7919) % 60000));
    buffer.fill(i & 255);
    kept.push(buffer);
    if (kept.length > 200) hash.update(kept.splice((i * 31) % kept.length, 1)[0].subarray(0, 64));
  }
  return hash.update(Buffer.concat(kept)).digest('hex').slice(0, 16);
}

if (isMainThread) {
  const records = Array.from({ length: 40000 }, (_, i) => ({ id: i, name: `name ${i % 977}`, list: [i, i / 7] }));
  const text = JSON.stringify(records);
  const packed = deflateSync(text);
  console.log('json', text.length, JSON.parse(inflateSync(packed)).length, digest(text));
  console.log('buffers', buffers(1));
  const answers = Array.from({ length: 3 }, (_, n) => new Promise((resolve, reject) => {
    new Worker(__filename, { workerData: n + 2 }).on('message', resolve).on('error', reject);
  }));
  const line = ({ sum, bytes }) => `${sum} ${digest(bytes)}`;
  Promise.all(answers).then((all) => console.log('workers', all.map(line).join(' ')));
} else {
  const bytes = new Uint8Array(3 << 20).fill(workerData);
  parentPort.postMessage({ sum: buffers(workerData), bytes }, [bytes.buffer]);
}
