/** What is offered and agreed to of permessage-deflate (RFC 7692, 7.1), and what is refused. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Compression } from "../../src/internal/transport/compression.ts"
import { Dialer, HttpServer, Listener, Upgrade } from "../../src/node/index.ts"
import { agreedTo, answerTo, offerOf } from "../../src/node/internal/deflate/negotiation.ts"
import { type Deflate, deflatingOf } from "../../src/node/internal/deflate/options.ts"

const settings = (option: boolean | Deflate) => Result.getOrThrow(deflatingOf(option))!

const byDefault = settings(true)
const withContexts = settings({ contextTakeover: true })
const small = settings({ windowBits: 10 })
const smallContexts = settings({ windowBits: 10, contextTakeover: true })

/** The contexts that are kept, in bytes: of what we send, and of what we receive. */
const kept = ({ receivedContext, sentContext }: Compression) => [sentContext, receivedContext]

const none = "server_no_context_takeover; client_no_context_takeover"

describe("a server answers", () => {
  const answered: ReadonlyArray<
    readonly [offer: string, options: typeof byDefault, answer: string | undefined, kept?: ReadonlyArray<number>]
  > = [
    ["permessage-deflate", byDefault, none, [0, 0]],
    ["permessage-deflate", withContexts, "", [32_768, 32_768]],
    ["permessage-deflate; client_max_window_bits", byDefault, none],
    ["Permessage-Deflate ;  Client_Max_Window_Bits", byDefault, none],
    [
      "permessage-deflate; client_max_window_bits",
      small,
      `${none}; server_max_window_bits=10; client_max_window_bits=10`
    ],
    [
      "permessage-deflate; client_max_window_bits=9",
      small,
      `${none}; server_max_window_bits=10; client_max_window_bits=9`
    ],
    ["permessage-deflate; client_max_window_bits=12", byDefault, `${none}; client_max_window_bits=12`],
    ["permessage-deflate; client_max_window_bits=\"12\"", byDefault, `${none}; client_max_window_bits=12`],
    ["permessage-deflate", smallContexts, "server_max_window_bits=10", [1024, 32_768]],
    [
      "permessage-deflate; client_max_window_bits",
      smallContexts,
      "server_max_window_bits=10; client_max_window_bits=10",
      [
        1024,
        1024
      ]
    ],
    ["permessage-deflate; server_max_window_bits=8", byDefault, `${none}; server_max_window_bits=8`],
    ["permessage-deflate; server_max_window_bits=15", byDefault, `${none}; server_max_window_bits=15`],
    ["permessage-deflate; server_no_context_takeover", withContexts, "server_no_context_takeover", [0, 32_768]],
    ["permessage-deflate; client_no_context_takeover", withContexts, "client_no_context_takeover", [32_768, 0]],
    // the first that makes sense
    ["x-webkit-deflate-frame, permessage-deflate", byDefault, none],
    [
      "permessage-deflate; mux, permessage-deflate; server_max_window_bits=9, permessage-deflate",
      byDefault,
      `${none}; server_max_window_bits=9`
    ],
    // none does
    ["", byDefault, undefined],
    ["permessage-bzip2", byDefault, undefined],
    ["permessage-deflate; unknown", byDefault, undefined],
    ["permessage-deflate; server_no_context_takeover=1", byDefault, undefined],
    ["permessage-deflate; client_no_context_takeover; client_no_context_takeover", byDefault, undefined],
    ["permessage-deflate; server_max_window_bits", byDefault, undefined],
    ["permessage-deflate; server_max_window_bits=7", byDefault, undefined],
    ["permessage-deflate; server_max_window_bits=16", byDefault, undefined],
    ["permessage-deflate; server_max_window_bits=010", byDefault, undefined],
    ["permessage-deflate; client_max_window_bits=1e1", byDefault, undefined],
    ["permessage-deflate; client_max_window_bits=", byDefault, undefined],
    ["permessage-deflate; client_max_window_bits=\"12", byDefault, undefined],
    ["permessage-deflate permessage-deflate", byDefault, undefined],
    [";", byDefault, undefined],
    [`permessage-deflate${"; a".repeat(3000)}`, byDefault, undefined]
  ]
  for (const [offer, options, answer, contexts] of answered) {
    it(`${offer.slice(0, 80)} by ${answer ?? "nothing"}`, () => {
      const said = answerTo(options, offer)
      const whole = answer === undefined
        ? undefined
        : answer === ""
        ? "permessage-deflate"
        : `permessage-deflate; ${answer}`
      assert.strictEqual(said?.header, whole)
      if (contexts !== undefined) assert.deepStrictEqual(kept(said!.compression), contexts)
    })
  }

  it("nothing where it is off, or is not asked", () => {
    assert.isUndefined(answerTo(undefined, "permessage-deflate"))
    assert.isUndefined(answerTo(byDefault, undefined))
  })

  it("connections that agreed to the same by one and the same", () => {
    const one = answerTo(byDefault, "permessage-deflate")!.compression
    assert.strictEqual(answerTo(byDefault, "permessage-deflate; client_max_window_bits")!.compression, one)
    assert.notStrictEqual(answerTo(byDefault, "permessage-deflate; server_max_window_bits=9")!.compression, one)
    assert.notStrictEqual(answerTo(settings(true), "permessage-deflate")!.compression, one)
  })
})

describe("a client", () => {
  it("offers what it bears", () => {
    assert.deepStrictEqual([byDefault, withContexts, small, smallContexts].map(offerOf), [
      `permessage-deflate; ${none}; client_max_window_bits`,
      "permessage-deflate; client_max_window_bits",
      `permessage-deflate; ${none}; server_max_window_bits=10; client_max_window_bits=10`,
      "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10"
    ])
  })

  const answers: ReadonlyArray<
    readonly [answer: string, options: typeof byDefault, what: RegExp | ReadonlyArray<number>]
  > = [
    [`permessage-deflate; ${none}`, byDefault, [0, 0]],
    ["permessage-deflate; server_no_context_takeover", byDefault, [0, 0]],
    ["permessage-deflate", withContexts, [32_768, 32_768]],
    [`permessage-deflate; ${none}`, withContexts, [0, 0]],
    ["permessage-deflate; client_max_window_bits=9", withContexts, [512, 32_768]],
    ["permessage-deflate; server_max_window_bits=9", withContexts, [32_768, 512]],
    ["permessage-deflate; server_max_window_bits=9; client_max_window_bits=12", smallContexts, [1024, 512]],
    ["permessage-deflate", byDefault, /keeps a context/],
    ["permessage-deflate; server_no_context_takeover", small, /window.*larger/],
    ["permessage-deflate; server_no_context_takeover; server_max_window_bits=11", small, /window.*larger/],
    ["permessage-deflate; client_max_window_bits", withContexts, /malformed/],
    ["permessage-deflate; mux", withContexts, /malformed/],
    ["permessage-deflate; server_max_window_bits=16", withContexts, /malformed/],
    ["permessage-deflate, permessage-deflate", withContexts, /not offered/],
    ["x-webkit-deflate-frame", withContexts, /not offered/],
    ["", withContexts, /not offered/],
    ["permessage-deflate; =", withContexts, /not offered/]
  ]
  for (const [answer, options, what] of answers) {
    it(`${what instanceof RegExp ? "does not bear" : "bears"} ${answer}`, () => {
      const agreed = agreedTo(options, answer)
      if (what instanceof RegExp) assert.match(Result.isFailure(agreed) ? agreed.failure : "", what)
      else assert.deepStrictEqual(kept(Result.getOrThrow(agreed)!), what)
    })
  }

  it("bears no answer to what it did not offer, and a server that has nothing to say", () => {
    assert.isTrue(Result.isFailure(agreedTo(undefined, "permessage-deflate")))
    assert.isUndefined(Result.getOrThrow(agreedTo(byDefault, undefined)))
    assert.isUndefined(Result.getOrThrow(agreedTo(undefined, undefined)))
  })
})

describe("an option that makes no sense", () => {
  const wrong: ReadonlyArray<readonly [Deflate, RegExp]> = [
    [{ windowBits: 8 }, /deflate\.windowBits.*from 9 to 15.*8/],
    [{ windowBits: 16 }, /windowBits/],
    [{ level: 0 }, /deflate\.level/],
    [{ level: 1.5 }, /deflate\.level/],
    [{ threshold: -1 }, /deflate\.threshold/],
    [{ threshold: NaN }, /deflate\.threshold/]
  ]
  for (const [deflate, what] of wrong) {
    it.effect(`is told by all that have it: ${JSON.stringify(deflate)}`, () =>
      Effect.gen(function*() {
        const failures = [
          yield* Effect.flip(Dialer.make("ws://127.0.0.1:1", { deflate })),
          yield* Effect.flip(Effect.scoped(Listener.make("ws://127.0.0.1:0", { deflate }))),
          yield* Effect.flip(Effect.scoped(Listener.make("ws://127.0.0.1:0", {
            paths: { "/a": Upgrade.make(() => Effect.void, { deflate }) }
          }))),
          yield* Effect.flip(Effect.scoped(HttpServer.make("http://127.0.0.1:0", { webSocket: "/", deflate })))
        ]
        for (const { detail, reason } of failures) {
          assert.strictEqual(reason, "BadOption")
          assert.match(detail, what)
        }
      }))
  }
})
