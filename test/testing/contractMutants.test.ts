/** The contract kit itself: a correct socket passes, and each way to break it is seen by the check that is about it. */
import { assert, describe, it } from "@effect/vitest"
import { SocketContract } from "../../src/testing/index.ts"
import * as Memory from "./support/memory.ts"
import { violation } from "./support/runVirtual.ts"

const named = (name: string) => {
  const check = SocketContract.checks.find((check) => check.name === name)
  if (check === undefined) throw new Error(`no check is called "${name}"`)
  return check
}

describe.each([
  Memory.make({ messages: false }),
  Memory.make({ messages: false, halfClose: false }),
  Memory.make({ messages: true })
])("a correct socket conforms: $name, half-close $halfClose", (transport) => {
  it.each(SocketContract.checksFor(transport))("$name", (check) => {
    assert.strictEqual(violation(check, transport)?.message, undefined)
  })
})

interface Mutant {
  readonly flaw: Memory.Flaw
  /** The check that is about it. */
  readonly check: string
  readonly seen: RegExp
  readonly messages?: boolean
}
const mutants: ReadonlyArray<Mutant> = [
  {
    flaw: "loses a byte",
    check: "large transfers in both directions at once arrive whole",
    seen: /^byte \d+ of 4096 to be \d+ instead of \d+/
  },
  { flaw: "reorders", check: "batches of concurrent writers do not interleave", seen: /byte \d+ of 4096/ },
  { flaw: "interleaves batches", check: "batches of concurrent writers do not interleave", seen: /byte \d+ of 4096/ },
  { flaw: "crosses connections", check: "connections at the same time do not mix", seen: /./ },
  { flaw: "feeds a pull that was given up", check: "an interrupted pull loses no byte", seen: /^byte 0 of 256/ },
  { flaw: "brings empty batches", check: "single bytes arrive in order", seen: /^an empty batch/ },
  {
    flaw: "swallows the FIN",
    check: "after a half-close the rest is read, and the other direction still works",
    seen: /^nothing within 5s/
  },
  {
    flaw: "ends both ways at a FIN",
    check: "after a half-close the rest is read, and the other direction still works",
    seen: /SocketWriteError|SocketCloseError 1000/
  },
  {
    flaw: "ends where it cannot half-close",
    check: "releasing a writer that cannot half-close leaves the connection alone",
    seen: /SocketCloseError 1000/,
    messages: true
  },
  {
    flaw: "leaves a pull when its scope closes",
    check: "closing the reader's scope fails a suspended pull",
    seen: /^nothing within 5s/
  },
  { flaw: "tells the end once", check: "pulls after the end keep failing in the same way", seen: /^nothing within 5s/ },
  {
    flaw: "drops the rest at the end",
    check: "a peer that closed before the reader was acquired has closed",
    seen: /^0 bytes instead of 10/
  },
  {
    flaw: "drops the rest at the end",
    check: "what was taken before a close arrives, however slow the peer",
    seen: /./
  },
  {
    flaw: "dies on a write to the gone",
    check: "writes to a peer that is gone fail and do not hang",
    seen: /^a defect: "gone"/
  },
  { flaw: "tells a reset as an end", check: "a broken connection is no orderly end", seen: /^SocketCloseError 1000/ },
  {
    flaw: "never waits",
    check: "a writer waits for a peer that does not read, and goes on when it does",
    seen: /bytes taken/
  },
  {
    flaw: "leaves a write when its connection closes",
    check: "a suspended write ends when its own connection is closed",
    seen: /^nothing within 5s/
  },
  {
    flaw: "leaves a write when the peer goes",
    check: "a suspended write fails when the peer is gone",
    seen: /^nothing within 5s/
  },
  { flaw: "tears an interrupted write", check: "an interrupted write tears nothing", seen: /byte \d+ of 65536/ },
  {
    flaw: "dials when it is made",
    check: "acquiring the reader dials, and not before",
    seen: /^one that the server handed out/
  },
  {
    flaw: "hangs when refused",
    check: "a dial that is refused fails with a SocketOpenError",
    seen: /^nothing within 5s/
  },
  {
    flaw: "tells a refusal as a close",
    check: "a dial that is refused fails with a SocketOpenError",
    seen: /^SocketCloseError 1006/
  },
  {
    flaw: "drops writes before the connection",
    check: "a write before the connection waits for it, and one given up is not sent",
    seen: /^success/
  },
  { flaw: "keeps an interrupted dial", check: "an interrupted dial leaves nothing behind", seen: /^nothing within 5s/ },
  { flaw: "cannot be dialled twice", check: "a socket can be dialled again", seen: /SocketOpenError/ },
  { flaw: "refuses before it runs", check: "a connection made before the accept loop runs waits for it", seen: /./ },
  {
    flaw: "keeps handlers when it stops",
    check: "stopping the accept loop interrupts its handlers, and it can run again",
    seen: /^0 interrupted/
  },
  {
    flaw: "stops when a handler fails",
    check: "a failing handler stops neither the accept loop nor the next connection",
    seen: /^nothing within 5s/
  },
  {
    flaw: "ends connections when it stops",
    check: "a connection acquired elsewhere outlives the accept loop",
    seen: /^SocketWriteError/
  },
  { flaw: "hangs when both close", check: "both ends may close at once", seen: /^them still running after 15s/ },
  { flaw: "merges messages", check: "messages that are read late are not merged", seen: /./, messages: true },
  {
    flaw: "makes text binary",
    check: "messages stay whole, text stays text and binary stays binary",
    seen: /0 bytes instead of/,
    messages: true
  },
  {
    flaw: "forgets the close code",
    check: "a close code and its reason reach the peer, after what was sent before",
    seen: /^SocketCloseError 1000/,
    messages: true
  },
  { flaw: "leaks", check: "ping-pong", seen: /^\d after it/ },
  { flaw: "hangs on release", check: "ping-pong", seen: /^them still running after 15s/ }
]

describe("a broken socket is found", () => {
  it.each(mutants)("one that $flaw: $check", ({ check, flaw, messages = false, seen }) => {
    const transport = Memory.make({ messages, flaw })
    const error = violation(named(check), transport)
    assert.isDefined(error)
    assert.match(error.seen, seen)
  })
})
