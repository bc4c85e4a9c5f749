/**
 * What a read of 64 KiB weighs in V8's young generation, in bytes, when the compiler is done with it. A program of its own, to be
 * bundled: `node --expose-gc --min-semi-space-size=64 balance.js`.
 */
import { balance } from "../../src/internal/bytes/memory.ts"

const reads = 500
const lots = 500

const readLot = (): void => {
  for (let i = 0; i < reads; i++) balance(64 * 1024)
}

for (let i = 0; i < lots; i++) readLot()
globalThis.gc!()
const before = process.memoryUsage().heapUsed
readLot()
process.stdout.write(JSON.stringify((process.memoryUsage().heapUsed - before) / reads))
