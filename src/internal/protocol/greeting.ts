/** The greeting: HELLO and WELCOME agree on a version, and on how often each end pings. */
import * as Effect from "effect/Effect"
import * as ConnectionError from "../../ConnectionError.ts"
import type * as Policy from "../../Policy.ts"
import { limitOf } from "../connection/core/limits.ts"
import { Refusing } from "../endings/refusing.ts"
import { within } from "../endings/timeLimit.ts"
import { type Control, ControlFrame, spoken, versions } from "./frames.ts"

type Failure = ConnectionError.ConnectionError

/** What a greeting needs of a connection. */
export interface Ungreeted {
  readonly send: (message: ControlFrame) => Effect.Effect<void, Failure>
  readonly receive: Effect.Effect<unknown, Failure>
  readonly flush: Effect.Effect<void, Failure>
  readonly closeWith: (reason: ConnectionError.Reason) => Effect.Effect<void>
  readonly patch: (changes: Policy.Patch) => Effect.Effect<void, Policy.InvalidPolicy>
}

/** An interval as it travels: whole milliseconds, where 0 is off. */
const onWire = (policy: Policy.Policy, name: "pingEvery" | "minPingEvery" | "silence"): number => {
  const value = limitOf(policy, name)
  return value === Infinity ? 0 : value
}

// our pings are not more frequent for the sake of a peer, unless the policy says so anyway; milliseconds
const mostOften = 100

/** A peer may make us ping down to this interval. */
const least = (pingEvery: number): number => Math.min(pingEvery || Infinity, mostOften)

/**
 * How often to ping, 0 never: as wanted, and twice within the silence that the listener bears, but not more often than
 * `least` allows. Milliseconds.
 */
const interval = (wanted: number, silence: number, least: number): number => {
  const every = Math.min(wanted || Infinity, silence / 2 || Infinity)
  return every === Infinity ? 0 : Math.ceil(Math.max(every, least))
}

const unsupported = (lowest: number, highest: number) =>
  ConnectionError.make(new ConnectionError.UnsupportedVersion({ lowest, highest, ours: spoken }))

/** The frame that the reader lets through first. */
const first = <Tag extends Control["_tag"]>({ receive }: Ungreeted, _tag: Tag) =>
  Effect.map(receive, (frame) => (frame as ControlFrame).control as Extract<Control, { readonly _tag: Tag }>)

/** Runs a greeting within `Policy.handshake`, and tells the peer why when it fails. It gives the interval of our pings. */
const greet = (
  connection: Ungreeted,
  limit: number,
  greeting: Effect.Effect<number, Failure>
): Effect.Effect<void, Failure> =>
  greeting.pipe(
    within(ConnectionError.HandshakeTimeout, limit),
    Effect.tapError((error) => connection.closeWith(error.reason)),
    Effect.flatMap((pingEvery) => Effect.orDie(connection.patch({ pingEvery })))
  )

/** The client's half. */
export const greetAsClient = (policy: Policy.Policy): (connection: Ungreeted) => Effect.Effect<void, Failure> => {
  const handshake = limitOf(policy, "handshake")
  const pingEvery = onWire(policy, "pingEvery")
  const silence = onWire(policy, "silence")
  return (connection) =>
    greet(
      connection,
      handshake,
      Effect.gen(function*() {
        yield* connection.send(new ControlFrame({ _tag: "Hello", ...versions, pingEvery, silence }))
        const welcome = yield* first(connection, "Welcome")
        if (welcome.version < versions.lowest || welcome.version > versions.highest) {
          return yield* unsupported(welcome.version, welcome.version)
        }
        return welcome.pingEvery === 0 ? 0 : Math.max(welcome.pingEvery, least(pingEvery))
      })
    )
}

/** The server's half: a client that is refused hears CLOSE in place of WELCOME. `onAgreed` is called once there is a version in common. */
export const greetAsServer = (
  policy: Policy.Policy,
  advise: () => ConnectionError.Advice
): (connection: Ungreeted, onAgreed: () => void) => Effect.Effect<void, Failure> => {
  const handshake = limitOf(policy, "handshake")
  const pingEvery = onWire(policy, "pingEvery")
  const minPingEvery = onWire(policy, "minPingEvery")
  const silence = onWire(policy, "silence")
  return (connection, onAgreed) =>
    greet(
      connection,
      handshake,
      Effect.gen(function*() {
        const hello = yield* first(connection, "Hello")
        const version = Math.min(hello.highest, versions.highest)
        if (version < Math.max(hello.lowest, versions.lowest)) return yield* unsupported(hello.lowest, hello.highest)
        const refusal = (yield* Refusing)()
        if (refusal !== undefined) return yield* ConnectionError.make(refusal)
        onAgreed()
        yield* connection.send(
          new ControlFrame({
            _tag: "Welcome",
            version,
            // a tenth longer: the network may bring two pings closer together
            pingEvery: interval(hello.pingEvery, silence, minPingEvery * 11 / 10),
            minPingEvery,
            advice: advise()
          })
        )
        // pings pass data that waits, and nothing may pass the WELCOME
        yield* connection.flush
        // often enough for the client to believe that we live
        return interval(pingEvery, hello.silence, least(pingEvery))
      })
    )
}
