/** The contract over real sockets: ours, and Effect's own, with what does not conform and why. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { SocketContract } from "../../src/testing/index.ts"
import * as Transports from "./support/transports.ts"

interface Deviation {
  /** Names of transports. */
  readonly of: RegExp
  /** Names of checks. */
  readonly checks: RegExp
  readonly reason: string
  /** It depends on the moment. Otherwise the check has to fail, so that this list does not outlive its reasons. */
  readonly sometimes?: boolean
}

const deviations: ReadonlyArray<Deviation> = [
  {
    of: /^(tcp|unix|tls|NodeSocket tcp|NodeSocket tls)$/,
    checks: /^writes to a peer that is gone/,
    reason: "NodeSocket waits for `drain`, `error` or `close` of a stream that is destroyed and has emitted them all"
  },
  {
    of: /^(tcp|unix|tls|NodeSocket tcp|NodeSocket tls)$/,
    checks: /^closing in the middle of traffic/,
    reason: "the same, when the write comes after the close",
    sometimes: true
  },
  {
    of: /^(tcp|unix|tls)$/,
    checks: /^after a half-close the rest is read/,
    reason: "Dialer does not ask for half-open sockets: Node ends our side at the peer's FIN, and the next write hangs"
  },
  {
    of: /^(tls|NodeSocket tcp|NodeSocket tls)$/,
    checks: /^a peer that closed before the reader was acquired/,
    reason: "Node has read the FIN and emitted `end` before NodeSocket listens for it, so the first pull waits for ever"
  },
  {
    of: /^tls$/,
    checks: /^an interrupted dial/,
    reason: "the same, for a client that is gone before the server gets to it",
    sometimes: true
  },
  {
    of: /^NodeSocket (tcp|tls)$/,
    checks: /^a suspended write ends when its own connection is closed/,
    reason: "destroySoon flushes first, for which a peer that does not read is waited for without bound"
  },
  {
    of: /^NodeSocket (tcp|tls)$/,
    checks: /^an interrupted dial/,
    reason: "an accepted connection whose reader nobody acquires is never closed, and the listener waits for it"
  },
  {
    of: /^NodeSocket/,
    checks: /^(stopping the accept loop|a failing handler)/,
    reason: "an accepted connection whose handler ended without acquiring the reader stays open, and the listener waits"
  },
  {
    of: /^NodeSocket ws$/,
    checks: /not read, and goes on|^a full direction|^an interrupted write|^a suspended write|however slow the peer/,
    reason: "the writer of fromWebSocket does not wait: `ws` keeps everything in memory"
  },
  {
    of: /^NodeSocket ws$/,
    checks: /^(closing in the middle|writes to a peer that is gone|a broken connection)/,
    reason: "`ws.send` on a closed WebSocket reports to a callback that fromWebSocket does not give it: writes succeed"
  }
]

describe.each([...Transports.holdfast, ...Transports.effect])("$name", (transport) => {
  for (const check of SocketContract.checksFor(transport)) {
    const deviation = deviations.find(({ checks, of }) => of.test(transport.name) && checks.test(check.name))
    if (deviation === undefined) {
      it.live(check.name, () => check.run(transport))
    } else {
      it.live(`${check.name} (known deviation: ${deviation.reason})`, () =>
        Effect.gen(function*() {
          // what hangs is left behind, so nothing can be counted
          const { held: _, ...rest } = transport
          const violated = yield* check.run({ ...rest, deadline: "700 millis" }).pipe(
            Effect.match({ onFailure: () => true, onSuccess: () => false })
          )
          if (deviation.sometimes !== true) assert.isTrue(violated, "conforms now: take it from the list")
        }))
    }
  }
})
