/**
 * Takes a gigabyte in reads of 16 KiB, as Node makes them, and prints how often V8 marked all of its heap meanwhile.
 * Arguments: `stream` (they come by a socket's stream of ours) or `plain` (nothing but the reads).
 */
import { type NodeGCPerformanceDetail, type PerformanceEntry, PerformanceObserver } from "node:perf_hooks"
import { Duplex } from "node:stream"
import { Stream } from "../../src/node/internal/stream/duplex.ts"

const size = 16 * 1024
const reads = 65_536

let marks = 0
// of `PerformanceNodeEntry`: a collection of everything
const major = 4
const observer = new PerformanceObserver((list) => {
  for (const entry of list.getEntries() as Array<PerformanceEntry & { readonly detail: NodeGCPerformanceDetail }>) {
    if (entry.detail.kind === major) marks++
  }
})
observer.observe({ entryTypes: ["gc"] })

const stream = new Stream()
const isPlain = process.argv[2] === "plain"
if (!isPlain) {
  stream.start(new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() }))
  stream.onRead(() => true)
}

for (let i = 0; i < reads; i++) {
  const chunk = Buffer.from(new ArrayBuffer(size))
  if (!isPlain) stream.received(chunk)
  // V8 collects between two events
  if (i % 64 === 0) await new Promise(setImmediate)
}
await new Promise((done) => setTimeout(done, 50))
console.log(marks)
process.exit(0)
