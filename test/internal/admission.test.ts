/** Admission without IO, on a clock of its own: order, rate and counts, also against a model that keeps every due time. */
import { assert, describe, it } from "@effect/vitest"
import { Policy } from "../../src/index.ts"
import { Admission, type Applicant } from "../../src/internal/server/admission.ts"

/** A clock that stands still until it is told to go on; `late` keeps its alarms back. */
const makeTime = () => {
  let time = 0
  let alarms: Array<{ readonly at: number; readonly run: () => void }> = []
  const goOn = (millis: number, late = false): void => {
    const end = time + millis
    while (true) {
      const [next] = alarms.filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at)
      if (late || next === undefined) break
      alarms = alarms.filter((alarm) => alarm !== next)
      time = Math.max(time, next.at)
      next.run()
    }
    time = end
  }
  const at = (millis: number, run: unknown) => {
    const alarm = { at: millis, run: run as () => void }
    alarms.push(alarm)
    return {
      cancel: () => {
        alarms = alarms.filter((one) => one !== alarm)
      }
    }
  }
  return { now: () => time, at, goOn, alarms: () => alarms.length }
}

const make = (changes: Policy.Patch) => {
  const time = makeTime()
  const admission = new Admission(Policy.make(changes), time as never)
  const turns: Array<string> = []
  const come = (name: string, remote?: string) => {
    const applicant: Applicant = {
      remote,
      host: undefined,
      standing: "outside",
      onTurn: () => turns.push(`${name} ${applicant.standing} at ${time.now()}`)
    }
    return { applicant, entered: admission.enter(applicant), leave: () => admission.leave(applicant) }
  }
  return { admission, come, time, turns }
}

describe("Admission", () => {
  it("admits in the order of arrival when places become free", () => {
    const { come, turns } = make({ maxConnections: 1, maxWaiting: 2 })
    const [a, b, c, d] = ["a", "b", "c", "d"].map((name) => come(name))
    assert.deepStrictEqual([a, b, c, d].map((one) => one!.entered), ["admitted", "waiting", "waiting", "maxWaiting"])
    d!.leave()
    a!.leave()
    a!.leave()
    assert.deepStrictEqual(turns, ["b admitted at 0"])
    b!.leave()
    assert.deepStrictEqual(turns, ["b admitted at 0", "c admitted at 0"])
  })

  it("a connection that stops waiting gives its slot of the rate to those behind it", () => {
    const { come, time, turns } = make({ acceptRate: 4 })
    const names = ["a", "b", "c", "d", "e", "f", "g"]
    const all = names.map((name) => come(name))
    assert.deepStrictEqual(all.slice(3).map(({ entered }) => entered), ["admitted", "waiting", "waiting", "waiting"])
    all[4]!.leave()
    time.goOn(249)
    assert.deepStrictEqual(turns, [])
    time.goOn(251)
    assert.deepStrictEqual(turns, ["f admitted at 250", "g admitted at 500"])
    assert.strictEqual(come("h").entered, "waiting")
    time.goOn(250)
    assert.deepStrictEqual(turns.slice(2), ["h admitted at 750"])
    assert.strictEqual(time.alarms(), 0)
  })

  it("a late wake-up lets no newcomer past", () => {
    const { come, time, turns } = make({ acceptRate: 1 })
    come("a")
    assert.strictEqual(come("b").entered, "waiting")
    time.goOn(5000, true)
    assert.strictEqual(come("c").entered, "admitted")
    assert.deepStrictEqual(turns, ["b admitted at 5000"])
  })

  it("B143 IPv6 addresses count by their prefix, and IPv4-mapped ones as IPv4", () => {
    const limit = { maxConnectionsPerAddress: 1, whenFull: "reject" } as const
    const entered = (changes: Policy.Patch, ...remotes: ReadonlyArray<string>) => {
      const { come } = make({ ...limit, ...changes })
      return remotes.map((remote) => come(remote, remote).entered === "admitted")
    }
    // one /64, another one, and the first written out
    assert.deepStrictEqual(
      entered({}, "[2001:db8::1]:1", "[2001:db8::ffff:1]:2", "[2001:db8:0:1::1]:3", "[2001:0DB8:0:0:a::]:4"),
      [true, false, true, false]
    )
    assert.deepStrictEqual(entered({ ipv6Prefix: 128 }, "[2001:db8::1]:1", "[2001:db8::2]:2"), [true, true])
    assert.deepStrictEqual(entered({ ipv6Prefix: 1000 }, "[2001:db8::1]:1", "[2001:db8::2]:2"), [true, true])
    assert.deepStrictEqual(entered({ ipv6Prefix: 48 }, "[2001:db8::1]:1", "[2001:db8:0:1::1]:2"), [true, false])
    assert.deepStrictEqual(
      entered({}, "1.2.3.4:1", "[::ffff:1.2.3.4]:2", "[::ffff:102:304]:3", "[::ffff:1.2.3.5]:4", "1.2.3.6:5"),
      [true, false, false, true, true]
    )
    assert.deepStrictEqual(entered({}, "[fe80::1%eth0]:1", "[fe80::2%eth0]:2", "[fe81::1%7]:3"), [true, false, true])
    // what is no address counts as it is
    assert.deepStrictEqual(entered({}, "unix:/run/a", "unix:/run/a", "[a]:1", "[a]:2"), [true, false, true, false])
  })

  it("refused connections count nowhere", () => {
    const { come, turns } = make({ maxConnections: 2, maxConnectionsPerAddress: 1, whenFull: "reject" })
    const first = come("a", "[::1]:1")
    assert.strictEqual(first.entered, "admitted")
    const second = come("b", "[::1]:2")
    assert.strictEqual(second.entered, "maxConnectionsPerAddress")
    second.leave()
    assert.strictEqual(come("c", "[::1]:3").entered, "maxConnectionsPerAddress")
    assert.strictEqual(come("d", "unix:/run/a.sock").entered, "admitted")
    assert.strictEqual(come("e", "10.0.0.1:1").entered, "maxConnections")
    first.leave()
    assert.strictEqual(come("f", "unix:/run/a.sock").entered, "maxConnectionsPerAddress")
    assert.strictEqual(come("g", "[::1]:4").entered, "admitted")
    assert.deepStrictEqual(turns, [])
  })

  it("a stop tells those who wait, leaves no alarm and admits no more", () => {
    const { admission, come, time, turns } = make({ acceptRate: 1 })
    const admitted = come("a")
    const waiting = come("b")
    admission.stop()
    assert.deepStrictEqual(turns, ["b outside at 0"])
    assert.strictEqual(time.alarms(), 0)
    admitted.leave()
    waiting.leave()
    assert.strictEqual(come("c").entered, "stopping")
    time.goOn(10_000)
    assert.deepStrictEqual(turns, ["b outside at 0"])
  })

  it("agrees with a model that keeps the due time of every connection, in 500 random sequences", () => {
    let state = 1
    const draw = (below: number): number => {
      state = (state * 48_271) % 2_147_483_647
      return state % below
    }
    for (let round = 0; round < 500; round++) {
      const rate = [0, 1, 3, 7, 50][draw(5)]!
      const places = [1, 2, 5, 0][draw(4)]!
      const maxWaiting = draw(6)
      const { come, time } = make({ acceptRate: rate, maxConnections: places, maxWaiting })
      const every = rate === 0 ? 0 : 1000 / rate
      const most = places || Infinity
      let next = -Infinity
      let inside: Array<string> = []
      let queue: Array<string> = []
      const dues: Array<number> = []
      const advance = (): void => {
        while (queue.length > 0 && inside.length < most) {
          if (every > 0 && dues[0]! > time.now() + 0.001) return
          inside.push(queue.shift()!)
          dues.shift()
        }
      }
      const all = new Map<string, ReturnType<typeof come>>()
      for (let step = 0; step < 30; step++) {
        const what = draw(3)
        if (what === 0) {
          const name = `${round}.${step}`
          const due = next + every - 1000
          const isDue = every === 0 || due <= time.now() + 0.001
          const expected = isDue && inside.length < most
            ? "admitted"
            : queue.length < maxWaiting
            ? "waiting"
            : "maxWaiting"
          const one = come(name)
          assert.strictEqual(one.entered, expected, name)
          if (expected === "maxWaiting") continue
          all.set(name, one)
          next = Math.max(next, time.now()) + every
          if (expected === "admitted") {
            inside.push(name)
          } else {
            queue.push(name)
            dues.push(due)
          }
        } else if (what === 1 && all.size > 0) {
          const name = [...all.keys()][draw(all.size)]!
          all.get(name)!.leave()
          all.delete(name)
          if (queue.includes(name)) {
            if (every > 0 && dues.at(-1)! > time.now() + 0.001) next -= every
            dues.pop()
          }
          inside = inside.filter((one) => one !== name)
          queue = queue.filter((one) => one !== name)
        } else {
          // in steps, as the model has no alarms
          for (let millis = draw(400); millis > 0; millis--) {
            time.goOn(1)
            advance()
          }
        }
        advance()
        const standing = [...all].map(([name, { applicant }]) => `${name} ${applicant.standing}`)
        const expected = [...all.keys()].map((name) => `${name} ${inside.includes(name) ? "admitted" : "waiting"}`)
        assert.deepStrictEqual(standing, expected, `round ${round}, step ${step}`)
      }
    }
  })
})
