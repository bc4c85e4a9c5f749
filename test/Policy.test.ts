import { assert, describe, it } from "@effect/vitest"
import { Config, ConfigProvider, Duration, Effect, Option, Result } from "effect"
import { readFileSync } from "node:fs"
import { ConnectionError, ConnectionPool, Policy } from "../src/index.ts"
import { type Definition, definitionsOf, numberOf } from "../src/internal/limits/definition.ts"
import { files, pathOf } from "./support/limitsTable.ts"

const presets = { defaults: Policy.defaults, lan: Policy.lan, mobile: Policy.mobile, realtime: Policy.realtime }

const isDuration = (name: string): boolean => Duration.isDuration(Policy.defaults[name as keyof Policy.Policy])
const names = Object.keys(Policy.defaults) as Array<Exclude<keyof Policy.Policy, symbol>>
const durations = names.filter(isDuration)

/** The message a wrong patch throws with. */
const refused = (patch: object): string => {
  try {
    Policy.make(patch)
  } catch (error) {
    assert.instanceOf(error, Policy.InvalidPolicy)
    return error.message
  }
  return "accepted"
}

const decodeFailure = (input: unknown): Effect.Effect<string> =>
  Effect.match(Policy.decode(input), { onFailure: ({ message }) => message, onSuccess: () => "accepted" })

/** A value of the right kind that makes no sense, for every field. */
const wrong = (name: string): unknown => {
  const value: unknown = Policy.defaults[name as keyof Policy.Policy]
  return isDuration(name) || typeof value === "number" ? -1 : typeof value === "boolean" ? "perhaps" : "nonsense"
}

describe("reading what people write", () => {
  for (
    const [text, millis] of [
      ["25s", 25_000],
      ["25 s", 25_000],
      ["  25s  ", 25_000],
      ["1m 30s", 90_000],
      ["1m30s", 90_000],
      ["1h30m", 5_400_000],
      ["500ms", 500],
      ["500 ms", 500],
      ["1.5s", 1_500],
      ["2d", 172_800_000],
      ["25 seconds", 25_000],
      ["1 minute", 60_000],
      ["1500", 1_500],
      ["0.5", 0.5],
      ["0", 0],
      ["0s", 0],
      ["Infinity", Infinity],
      ["infinity", Infinity],
      ["inf", Infinity],
      ["-5 seconds", -5_000]
    ] as const
  ) {
    it(`duration ${JSON.stringify(text)} is ${millis} ms`, () =>
      assert.deepStrictEqual(Option.map(Policy.parseDuration(text), Duration.toMillis), Option.some(millis)))
  }

  it("what is no duration is none", () => {
    for (const text of ["", " ", "abc", "s", "5 parsecs", "1_000", "1e3", "NaN", "+5s", "-5s", "1m30", "0x10", "25S"]) {
      assert.isTrue(Option.isNone(Policy.parseDuration(text)), text)
    }
  })

  for (
    const [text, bytes] of [
      ["1048576", 1_048_576],
      [" 512 ", 512],
      ["1MiB", 1_048_576],
      ["64 KiB", 65_536],
      ["1.5KiB", 1_536],
      ["1 mib", 1_048_576],
      ["10 MB", 10_000_000],
      ["1kB", 1_000],
      ["1k", 1_000],
      ["1K", 1_000],
      ["1Ki", 1_024],
      ["2 GiB", 2_147_483_648],
      ["1B", 1],
      ["0", 0]
    ] as const
  ) {
    it(`size ${JSON.stringify(text)} is ${bytes} bytes`, () =>
      assert.deepStrictEqual(Policy.parseBytes(text), Option.some(bytes)))
  }

  it("what is no size is none", () => {
    for (const text of ["", " ", "abc", "-1", "1.5", "1..5MB", "MiB", "1 MiB 2", "0x10", "1e3", "0.3 B"]) {
      assert.isTrue(Option.isNone(Policy.parseBytes(text)), text)
    }
  })
})

describe("presets", () => {
  for (const [name, policy] of Object.entries(presets)) {
    it.effect(`${name} survives JSON`, () =>
      Effect.gen(function*() {
        const json = JSON.stringify(Policy.encode(policy))
        assert.deepStrictEqual(yield* Policy.decode(JSON.parse(json)), policy)
        // every field is written out, and its preset read by name is the same
        assert.deepStrictEqual(Object.keys(JSON.parse(json)).sort(), [...names].sort())
        assert.deepStrictEqual(yield* Policy.decode({ preset: name }), policy)
      }))

    it(`${name} makes sense`, () => {
      const millis = (duration: Duration.Duration) => Duration.toMillis(duration)
      // a lost ping is no death: two fit into the silence
      assert.isAtLeast(millis(policy.silence), 2 * millis(policy.pingEvery))
      assert.isBelow(millis(policy.pong), millis(policy.silence))
      assert.isAbove(millis(policy.open), 0)
      assert.isAbove(millis(policy.handshake), 0)
      assert.isAbove(millis(policy.writeStall), 0)
      assert.isAbove(millis(policy.frame), 0)
      assert.isAbove(millis(policy.drain), 0)
      assert.isAtMost(millis(policy.drain), 10_000)
      // one frame of the largest size is allowed to be waiting
      assert.isAtLeast(policy.outboxBytes, policy.maxFrame)
      assert.isAtLeast(policy.inboxBytes, policy.maxFrame)
      assert.isAbove(policy.maxConnections, 0)
      assert.isAbove(policy.lowWater, 0)
      assert.isBelow(policy.lowWater, 1)
    })
  }

  it("the defaults ping below the 60 s at which common proxies cut", () => {
    assert.isBelow(Duration.toMillis(Policy.defaults.pingEvery), 60_000)
    assert.isAtMost(Duration.toMillis(Policy.defaults.silence), 60_000)
  })

  it("lan notices a dead peer within 10 s, mobile pings below 5 minutes, realtime drops old news", () => {
    assert.isAtMost(Duration.toMillis(Policy.lan.pingEvery) + Duration.toMillis(Policy.lan.pong), 10_000)
    assert.isBelow(Duration.toMillis(Policy.mobile.pingEvery), 300_000)
    assert.strictEqual(Policy.realtime.overflow, "drop-oldest")
    assert.isAtMost(Duration.toMillis(Policy.realtime.pingEvery) + Duration.toMillis(Policy.realtime.pong), 3_000)
  })
})

describe("make and patch", () => {
  it("fills in the defaults, and reads durations as code writes them", () => {
    const policy = Policy.make({
      silence: "90 seconds",
      pong: 1500,
      idle: Duration.minutes(3),
      drain: "2 seconds",
      maxWaiting: 7
    })
    assert.strictEqual(Duration.toMillis(policy.silence), 90_000)
    assert.strictEqual(Duration.toMillis(policy.pong), 1500)
    assert.strictEqual(Duration.toMillis(policy.idle), 180_000)
    assert.strictEqual(Duration.toMillis(policy.drain), 2000)
    assert.strictEqual(policy.maxWaiting, 7)
    for (const name of names) {
      if (["silence", "pong", "idle", "drain", "maxWaiting"].includes(name)) continue
      assert.deepStrictEqual(policy[name], Policy.defaults[name])
    }
    assert.strictEqual(Policy.make(), Policy.defaults)
    assert.strictEqual(Policy.make(policy), policy)
    assert.deepStrictEqual(Policy.make({ silence: undefined }), Policy.defaults)
    assert.strictEqual(Policy.make({ misses: 2 }, Policy.mobile).overflow, Policy.mobile.overflow)
    assert.deepStrictEqual(Policy.make({ misses: 2 }, Policy.mobile).pong, Policy.mobile.pong)
  })

  for (const name of names) {
    it(`B34 a wrong ${name} is rejected by name`, () => {
      assert.include(refused({ [name]: wrong(name) }), name)
      assert.include(refused({ [name]: null }), name)
      assert.include(refused({ [name]: Symbol("odd") }), name)
    })
  }

  for (const name of durations) {
    it(`B34 ${name}: negative and NaN are refused, 0 and Infinity are taken`, () => {
      assert.include(refused({ [name]: -0.001 }), `${name} must not be negative`)
      assert.include(refused({ [name]: "-1 seconds" }), `${name} must not be negative`)
      assert.include(refused({ [name]: Duration.millis(-1) }), `${name} must not be negative`)
      assert.include(refused({ [name]: -Infinity }), `${name} must not be negative`)
      assert.include(refused({ [name]: NaN }), `${name} is not a duration`)
      assert.include(refused({ [name]: "soon" }), `${name} is not a duration`)
      assert.strictEqual(refused({ [name]: 0 }), "accepted")
      assert.strictEqual(refused({ [name]: "Infinity" }), "accepted")
    })
  }

  it("B34 numbers outside their bounds are refused, NaN and fractions too", () => {
    for (const name of ["inboxMessages", "outboxMessages", "maxFrame", "inboxBytes", "outboxBytes"]) {
      for (const value of [0, -1, 1.5, NaN, Infinity, 2 ** 53]) assert.include(refused({ [name]: value }), name)
    }
    for (const name of ["misses", "maxConnections", "maxConnectionsPerAddress", "acceptRate", "maxWaiting"]) {
      for (const value of [-1, 0.5, NaN, Infinity]) assert.include(refused({ [name]: value }), name)
      assert.strictEqual(refused({ [name]: 0 }), "accepted")
    }
    for (const name of ["pingJitter", "lowWater"]) {
      for (const value of [-0.1, 1.1, NaN]) assert.include(refused({ [name]: value }), name)
      for (const value of [0, 1]) assert.strictEqual(refused({ [name]: value }), "accepted")
    }
  })

  it("all wrong fields are named in one line", () => {
    const message = refused({ silence: "soon", drain: NaN, maxFrame: 0, lowWater: 7, overflow: "panic", sillence: 5 })
    for (const name of ["silence", "drain", "maxFrame", "lowWater", "overflow", "\"sillence\""]) {
      assert.include(message, name)
    }
    assert.notInclude(message, "\n")
  })

  it("a field that there is not is refused, also one that every object has", () => {
    assert.strictEqual(refused({ sillence: 5 }), "invalid policy: there is no field \"sillence\"")
    assert.strictEqual(refused({ toString: 5 }), "invalid policy: there is no field \"toString\"")
  })

  it.effect("patch changes some fields, keeps the others, and fails with the name of a wrong one", () =>
    Effect.gen(function*() {
      const patched = yield* Policy.patch(Policy.lan, { pingEvery: "1 second" })
      assert.strictEqual(Duration.toMillis(patched.pingEvery), 1000)
      assert.deepStrictEqual(patched.pong, Policy.lan.pong)
      assert.instanceOf(patched, Policy.Policy)
      const error = yield* Effect.flip(Policy.patch(Policy.lan, { pingEvery: -1 }))
      assert.strictEqual(error._tag, "InvalidPolicy")
      assert.include(error.message, "pingEvery")
    }))
})

describe("JSON", () => {
  it.effect("an empty object is the defaults, and fields change a preset", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* Policy.decode({}), Policy.defaults)
      const policy = yield* Policy.decode({
        preset: "mobile",
        silence: "1m 30s",
        drain: 1500,
        maxFrame: "64 KiB",
        misses: 3
      })
      assert.deepStrictEqual(
        policy,
        Policy.make({ silence: 90_000, drain: 1500, maxFrame: 65_536, misses: 3 }, Policy.mobile)
      )
    }))

  it.effect("any policy survives it: odd durations, off, endless", () =>
    Effect.gen(function*() {
      const millis = [0, 1, 999, 1000, 1001, 59_999, 60_000, 90_061_001, 0.5, 1500.25, 86_400_000 * 400, Infinity]
      for (let i = 0; i < millis.length * durations.length; i++) {
        const patch = Object.fromEntries(durations.map((name, j) => [name, millis[(i + j * 5) % millis.length]]))
        // one after the other: some contradict each other
        const policy = Object.entries(patch).reduce(
          (all, [name, value]) => Policy.make({ [name]: value }, all),
          Policy.defaults
        )
        const read = yield* Policy.decode(JSON.parse(JSON.stringify(Policy.encode(policy))))
        for (const name of durations) {
          assert.strictEqual(
            Duration.toMillis(read[name] as Duration.Duration),
            Duration.toMillis(policy[name] as Duration.Duration),
            name
          )
        }
      }
    }))

  it.effect("B34 every wrong field is named", () =>
    Effect.gen(function*() {
      const all = yield* decodeFailure(Object.fromEntries(names.map((name) => [name, wrong(name)])))
      for (const name of names) assert.include(all, `["${name}"]`)
      assert.notInclude(all, "\n")
      for (const name of durations) {
        assert.include(yield* decodeFailure({ [name]: "-5 seconds" }), `${name} must not be negative`)
        assert.include(yield* decodeFailure({ [name]: "soon" }), `${name} as a duration such as "25s"`)
      }
    }))

  it.effect("an unknown field and an unknown preset are errors", () =>
    Effect.gen(function*() {
      assert.include(yield* decodeFailure({ sillence: "5s" }), "there is no field \"sillence\"")
      assert.include(yield* decodeFailure({ preset: "wan" }), "defaults, lan, mobile, realtime")
      assert.include(yield* decodeFailure({ preset: "toString" }), "defaults, lan, mobile, realtime")
      assert.include(yield* decodeFailure({ preset: 5 }), "defaults, lan, mobile, realtime")
    }))

  it.effect("what is no object is an error", () =>
    Effect.gen(function*() {
      for (const input of [undefined, null, 5, "lan", [], [{}]]) {
        assert.include(yield* decodeFailure(input), "expected an object")
      }
    }))
})

describe("configuration", () => {
  const read = (env: Record<string, string>, from?: Policy.Policy) =>
    Policy.config(from).pipe(Config.nested("HOLDFAST")).parse(
      ConfigProvider.fromEnv({ env }).pipe(ConfigProvider.constantCase)
    )

  it.effect("nothing set is the defaults, or what it starts from", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* read({}), Policy.defaults)
      assert.deepStrictEqual(yield* read({}, Policy.realtime), Policy.realtime)
      const odd = Policy.make({ silence: 1500.25, drain: "Infinity" })
      assert.deepStrictEqual(yield* read({}, odd), odd)
    }))

  it.effect("variables set fields of every kind", () =>
    Effect.gen(function*() {
      const policy = yield* read({
        HOLDFAST_PING_EVERY: "20s",
        HOLDFAST_SILENCE: "1 minute",
        HOLDFAST_DRAIN: "1500",
        HOLDFAST_MAX_FRAME: "2 MiB",
        HOLDFAST_MAX_CONNECTIONS: "5",
        HOLDFAST_PING_JITTER: "0.25",
        HOLDFAST_OVERFLOW: "close",
        HOLDFAST_NO_DELAY: "false",
        HOLDFAST_UNRELATED: "x"
      })
      assert.instanceOf(policy, Policy.Policy)
      assert.deepStrictEqual(
        policy,
        Policy.make({
          pingEvery: "20 seconds",
          silence: "1 minute",
          drain: 1500,
          maxFrame: 2 * 1024 * 1024,
          maxConnections: 5,
          pingJitter: 0.25,
          overflow: "close",
          noDelay: false
        })
      )
    }))

  it.effect("B34 a wrong variable is an error that names the field", () =>
    Effect.gen(function*() {
      const constant = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
      for (const name of names) {
        const value = isDuration(name) ? "-5 seconds" : String(wrong(name))
        const error = yield* Effect.flip(read({ [`HOLDFAST_${constant(name)}`]: value }))
        assert.include(error.message, name)
      }
    }))
})

const seconds = (duration: Duration.Duration): number => Duration.toMillis(duration) / 1000

describe("limits that contradict each other", () => {
  const pairs = [
    [{ maxFrame: "2 MiB", outboxBytes: "1 MiB" }, "maxFrame (2 MiB) must not be more than outboxBytes (1 MiB)"],
    [{ retryBase: "2s", retryCap: "1s" }, "retryBase (2s) must not be more than retryCap (1s)"],
    [{ pingEvery: "20s", silence: "10s" }, "pingEvery (20s) must not be more than silence (10s)"]
  ] as const

  for (const [document, message] of pairs) {
    it.effect(`B137 are refused by name: ${Object.keys(document).join(" and ")}`, () =>
      Effect.gen(function*() {
        assert.include(yield* decodeFailure(document), message)
        const bytes = (text: string) => Option.getOrElse(Policy.parseBytes(text), () => text)
        const patch: Policy.Patch = Object.fromEntries(
          Object.entries(document).map(([name, text]) => [name, bytes(text)])
        )
        const error = yield* Effect.flip(Policy.patch(Policy.defaults, patch))
        assert.include(error.message, message)
        const env = Object.fromEntries(
          Object.entries(document).map((
            [name, text]
          ) => [name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase(), text])
        )
        const config = Policy.config().parse(ConfigProvider.fromEnv({ env }).pipe(ConfigProvider.constantCase))
        assert.include((yield* Effect.flip(config)).message, message)
        assert.include(refused(patch), message)
        // a program that means it gives one after the other
        const [[first, second], [other, value]] = Object.entries(patch) as unknown as [[string, never], [string, never]]
        const meant = Policy.make({ [other]: value }, Policy.make({ [first]: second }))
        assert.deepStrictEqual(yield* Policy.decode(JSON.parse(JSON.stringify(Policy.encode(meant)))), meant)
      }))
  }

  it.effect("B137 in a document and in configuration a preset and a limit that is off are no contradiction", () =>
    Effect.gen(function*() {
      assert.strictEqual(seconds((yield* Policy.decode({ preset: "lan", pingEvery: "1 minute" })).silence), 120)
      assert.strictEqual(yield* decodeFailure({ silence: 0, pingEvery: "1h" }), "accepted")
      assert.strictEqual(yield* decodeFailure({ silence: "Infinity", pingEvery: "1h" }), "accepted")
      assert.strictEqual(yield* decodeFailure({ silence: "1s", pingEvery: 0 }), "accepted")
      assert.strictEqual(yield* decodeFailure({ retryBase: "1h", retryCap: 0 }), "accepted")
      // what a program gave counts as given
      const config = Policy.config(Policy.make({ silence: "90 seconds" }))
      const error = yield* Effect.flip(config.parse(ConfigProvider.fromUnknown({ pingEvery: "2 minutes" })))
      assert.include(error.message, "silence (1m 30s)")
    }))

  it.effect("a patch changes what it names and nothing else: a peer that asks for slow pings turns no limit off", () =>
    Effect.gen(function*() {
      for (const policy of [Policy.defaults, Policy.make({ silence: "1 minute" })]) {
        const slow = yield* Policy.patch(policy, { pingEvery: "24 days" })
        assert.deepStrictEqual([seconds(slow.pingEvery), seconds(slow.silence)], [24 * 86_400, 60])
      }
      const odd = Policy.make({ silence: "1 minute" }, Policy.make({ pingEvery: "1 hour" }))
      assert.strictEqual((yield* Policy.patch(odd, { misses: 2 })).misses, 2)
    }))

  it("B137 a default follows what was given", () => {
    assert.strictEqual(Policy.make({ maxFrame: 4 * 1024 * 1024 }).outboxBytes, 4 * 1024 * 1024)
    assert.strictEqual(Policy.make({ maxFrame: 100 }).outboxBytes, Policy.defaults.outboxBytes)
    assert.strictEqual(Policy.make({ outboxBytes: 100 }).maxFrame, Policy.defaults.maxFrame)
    assert.strictEqual(seconds(Policy.make({ retryBase: "1 minute" }).retryCap), 60)
    assert.strictEqual(seconds(Policy.make({ retryCap: "100 millis" }).retryBase), 0.1)
    // two pings fit into it
    assert.strictEqual(seconds(Policy.make({ pingEvery: "40 seconds" }).silence), 80)
    assert.strictEqual(seconds(Policy.make({ pingEvery: "5 minutes" }, Policy.lan).silence), 600)
    assert.strictEqual(seconds(Policy.make({ silence: "10 seconds" }).pingEvery), 25)
    assert.strictEqual(seconds(Policy.make({ pingEvery: 0 }).silence), 60)
  })

  it.effect("B137 a given limit never moves, and a default that followed stays a default", () =>
    Effect.gen(function*() {
      const given = Policy.make({ silence: "50 seconds" })
      assert.strictEqual(seconds(Policy.make({ pingEvery: "5 minutes" }, given).silence), 50)
      const slow = Policy.make({ pingEvery: "5 minutes" })
      assert.strictEqual(seconds(Policy.make({ misses: 1 }, slow).silence), 600)
      assert.strictEqual(seconds(Policy.make({ pingEvery: "10 minutes" }, slow).silence), 1200)
      const read = yield* Policy.decode({ preset: "realtime", pingEvery: "1m" })
      assert.strictEqual(seconds(read.silence), 120)
      const config = Policy.config().parse(ConfigProvider.fromUnknown({ maxFrame: "4 MiB" }))
      assert.strictEqual((yield* config).outboxBytes, 4 * 1024 * 1024)
    }))
})

describe("retryOn and giveUpOn", () => {
  const lists = ["retryOn", "giveUpOn"] as const

  it.effect("are lists of reasons, codes and ranges, in data also as text", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual([Policy.defaults.retryOn, Policy.defaults.giveUpOn], [[], []])
      for (const name of lists) {
        const rules = ["HandshakeFailed", 4001, "4000-4099"] as const
        assert.deepStrictEqual(Policy.make({ [name]: rules })[name], rules)
        for (const input of [rules, " HandshakeFailed, 4001,4000-4099", ["HandshakeFailed", "4001", "4000-4099"]]) {
          const read = yield* Policy.decode({ [name]: input })
          assert.deepStrictEqual(read[name], rules)
          assert.deepStrictEqual(yield* Policy.decode(JSON.parse(JSON.stringify(Policy.encode(read)))), read)
        }
        const config = Policy.config().parse(ConfigProvider.fromUnknown({ [name]: "HandshakeFailed,4001,4000-4099" }))
        assert.deepStrictEqual((yield* config)[name], rules)
        for (const none of [[], "", "none"]) assert.deepStrictEqual((yield* Policy.decode({ [name]: none }))[name], [])
        assert.deepStrictEqual(ConnectionPool.limits({ [name]: rules })[name], rules)
      }
    }))

  it("take every reason that there is", () => {
    const tags = ConnectionError.Reason.members.map((member) => member.identifier)
    assert.strictEqual(refused({ retryOn: tags }), "accepted")
  })

  it.effect("refuse what is none by name", () =>
    Effect.gen(function*() {
      for (const name of lists) {
        for (
          const [rule, message] of [
            ["HandshakeFailled", `${name}: there is no reason "HandshakeFailled"`],
            [-1, `${name}: -1 is no close code`],
            [65_536, `${name}: 65536 is no close code`],
            [1.5, `${name}: 1.5 is no close code`],
            ["4099-4000", `${name}: 4099-4000 is no range`],
            ["4000-70000", `${name}: 4000-70000 is no range`]
          ] as const
        ) {
          assert.include(refused({ [name]: ["Reset", rule] }), message)
          assert.include(yield* decodeFailure({ [name]: ["Reset", rule] }), message)
          assert.throws(() => ConnectionPool.limits({ [name]: [rule] } as object), message)
        }
      }
    }))

  it.effect("refuse an entry that is in both", () =>
    Effect.gen(function*() {
      const both = { retryOn: ["Reset", 4001], giveUpOn: [4001, "Superseded"] } as const
      assert.include(refused(both), "4001 is in retryOn and in giveUpOn")
      assert.include(yield* decodeFailure(both), "4001 is in retryOn and in giveUpOn")
      assert.throws(() => ConnectionPool.limits(both), "4001 is in retryOn and in giveUpOn")
      // an exception to a range is none
      assert.strictEqual(refused({ retryOn: ["4000-4099"], giveUpOn: [4001] }), "accepted")
    }))
})

describe("a limit is said once", () => {
  const sets = { policy: definitionsOf(Policy.Policy.fields), pool: definitionsOf(ConnectionPool.Limits.fields) }

  for (const [set, definitions] of Object.entries(sets)) {
    it(`by the name of its field: ${set}`, () => {
      for (const [name, definition] of Object.entries<Definition>(definitions)) {
        assert.strictEqual(definition.name, name)
        const others = [...[definition.atLeast ?? []].flat().map(({ limit }) => limit), definition.apartFrom]
        for (const other of others) if (other !== undefined) assert.property(definitions, other)
      }
    })
  }

  it("0 is off where the definition says so, and a value of its own elsewhere", () => {
    const at = (name: keyof typeof sets.policy, value: Duration.Input): number =>
      numberOf(sets.policy[name], typeof value === "number" ? value : Duration.fromInputUnsafe(value))
    for (const name of ["open", "silence", "retryCap", "keepAlive"] as const) {
      assert.strictEqual(at(name, Duration.zero), Infinity)
      assert.strictEqual(at(name, "5 seconds"), 5000)
    }
    for (const name of ["drain", "halfClose", "maxAgeGrace", "retryMaxAdvice", "retryResetAfter"] as const) {
      assert.strictEqual(at(name, Duration.zero), 0)
    }
    // the one lower bound
    assert.deepStrictEqual([at("minPingEvery", Duration.zero), at("minPingEvery", Duration.infinity)], [0, 0])
    assert.deepStrictEqual([at("maxConnections", 0), at("maxConnections", 7), at("maxWaiting", 0)], [Infinity, 7, 0])
  })

  for (const { path, rewritten } of files) {
    it(`and what ${path} says of it is written out of that (npm run limits)`, () => {
      const text = readFileSync(pathOf(path), "utf8")
      assert.strictEqual(rewritten(text), text)
    })
  }

  it("a docstring and a row that say something else are found", () => {
    const planted = [
      ["src/guides/limits.md", "| `silence` | 1m |", "| `silence` | 2m |"],
      ["src/guides/pools-and-requests.md", "| `checkAfter` | duration | 30s |", "| `checkAfter` | duration | 20s |"],
      ["src/Policy.ts", "(bytes, not messages). The longest", "(messages). The longest"],
      ["src/ConnectionPool.ts", "Default 30 s. 0 checks every time.", "Default 30 s. 0 is off."],
      ["src/node/Dialer.ts", "Default 1 s. 0 destroys", "Default 3 s. 0 destroys"],
      ["src/node/Listener.ts", "Default 511.", "Default 128."],
      ["src/node/HttpServer.ts", "Default 1 s. 0 destroys", "Default 3 s. 0 destroys"]
    ] as const
    for (const [path, right, wrong] of planted) {
      const text = readFileSync(pathOf(path), "utf8")
      const broken = text.replace(right, wrong)
      assert.notStrictEqual(broken, text, `${path} has ${right}`)
      assert.strictEqual(files.find((file) => file.path === path)!.rewritten(broken), text)
    }
  })

  it("of a pool too: at least min, whatever is given", () => {
    const wrong = (input: unknown) =>
      Result.getOrThrow(Result.flip(Effect.runSync(Effect.result(ConnectionPool.decode(input))))).message
    assert.include(wrong({ min: 9 }), "min (9) must not be more than max (8)")
    assert.throws(() => ConnectionPool.limits({ min: 3, max: 2 }), "min (3) must not be more than max (2)")
  })
})
