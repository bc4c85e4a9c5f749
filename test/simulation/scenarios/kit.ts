/**
 * Bugs that shipped, as scenarios: a program on the simulated network that passes on the runtime as it is, and fails by
 * its own assertion on a runtime that has the bug.
 */
import { assert, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import type * as Client from "../../../src/Client.ts"
import type { Connection } from "../../../src/Connection.ts"
import type { ConnectionError } from "../../../src/ConnectionError.ts"
import * as Holdfast from "../../../src/index.ts"
import type * as Server from "../../../src/Server.ts"
import type { TestNetwork } from "../../../src/testing/index.ts"
import * as Mutants from "../../support/mutants.ts"

/** What a scenario found to be otherwise than it has to be. */
export class ScenarioFailure extends Error {
  readonly what: string
  constructor(what: string, actual: unknown, expected: unknown) {
    super(`${what}: ${JSON.stringify(actual)}, expected ${JSON.stringify(expected)}`)
    this.what = what
  }
}

/** A runtime with the bug, and the `what` of the assertion that notices it. */
export interface Broken extends Mutants.Mutant {
  readonly caughtBy: string
}

export interface Scenario {
  /**
   * Runs under virtual time, which passes by itself for up to a day. Fails with a `ScenarioFailure`; any other failure
   * is a mistake in the scenario.
   */
  readonly run: (holdfast: Mutants.Runtime) => Effect.Effect<void, unknown, Scope.Scope>
  /** By what is broken. */
  readonly broken: { readonly [bug: string]: Broken }
}

/** No scenario takes a day; one that would is stuck. In small steps: what it leaves running must not run for a day. */
const step = Duration.minutes(1)
const steps = 24 * 60

/** In milliseconds of real time, for a test that takes a few seconds on a loaded machine, and a tenth of one else. */
export const patience = 60_000

const start = Effect.fnUntraced(function*(run: Scenario["run"], holdfast: Mutants.Runtime) {
  const ended: { exit?: Exit.Exit<void, unknown> } = {}
  const body = Effect.onExit(run(holdfast), (exit) => Effect.sync(() => void (ended.exit = exit)))
  // detached: what a broken runtime leaves hanging does not hang the test as well
  const fiber = yield* Effect.forkDetach(Effect.scoped(body))
  for (let i = 0; i < steps && ended.exit === undefined; i++) yield* TestClock.adjust(step)
  return { exit: ended.exit, fiber }
})

/** A scenario on a broken runtime ended by the assertion that the mutant names, and by nothing else. */
export const assertCaught = (exit: Exit.Exit<void, unknown>, caughtBy: string): void => {
  assert.isFalse(Exit.isSuccess(exit), "the scenario passes on the broken runtime")
  const failure = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  if (!(failure instanceof ScenarioFailure)) throw failure
  assert.strictEqual(failure.what, caughtBy, failure.message)
}

/** Two tests or more: the runtime passes, and every broken one is caught. */
export const scenario = (name: string, { broken, run }: Scenario): void => {
  it.effect(name, () =>
    Effect.gen(function*() {
      const { exit, fiber } = yield* start(run, Holdfast)
      assert.isDefined(exit, "the scenario is stuck")
      yield* exit!
      yield* TestClock.adjust(step)
      assert.isDefined(fiber.pollUnsafe(), "something of the scenario is never released")
    }), patience)
  for (const [bug, mutant] of Object.entries(broken)) {
    it.effect(`${name} is caught when broken: ${bug}`, () =>
      Effect.gen(function*() {
        const { exit } = yield* start(run, yield* Mutants.load(mutant))
        assert.isDefined(exit, "the scenario is stuck on the broken runtime")
        assertCaught(exit!, mutant.caughtBy)
      }), patience)
  }
}

// ---- assertions -----------------------------------------------------------------------------------------------------

export const expect = <A>(what: string, actual: A, expected: A): Effect.Effect<void, ScenarioFailure> =>
  Effect.suspend(() =>
    Equal.equals(actual, expected) ? Effect.void : Effect.fail(new ScenarioFailure(what, actual, expected))
  )

/** `actual` may be anything from `least` to `most`. */
export const expectBetween = (
  what: string,
  actual: number,
  least: number,
  most: number
): Effect.Effect<void, ScenarioFailure> =>
  Effect.suspend(() =>
    actual >= least && actual <= most
      ? Effect.void
      : Effect.fail(new ScenarioFailure(what, actual, `${least} to ${most}`))
  )

export const now: Effect.Effect<number> = Clock.currentTimeMillis

/** How something ended: after how long, and with what; `undefined` if it had not within `limit`. */
export const outcome = <A, E, R>(
  limit: Duration.Input,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<{ readonly at: number; readonly result: A | string } | undefined, never, R> =>
  Effect.result(effect).pipe(
    Effect.flatMap((result) =>
      Effect.map(now, (at) => ({ at, result: result._tag === "Success" ? result.success : tagOf(result.failure) }))
    ),
    Effect.timeoutOption(limit),
    Effect.map(Option.getOrUndefined)
  )

/** The name of a reason: `SilenceTimeout`. */
const tagOf = (failure: unknown): string =>
  (failure as ConnectionError).reason?._tag ?? (failure as { readonly _tag?: string })._tag ?? String(failure)

/** When a connection ended and why, or `undefined` if it had not within `limit`. */
export const end = (connection: Pick<Connection<unknown, never>, "closed">, limit: Duration.Input) =>
  outcome(limit, connection.closed)

/** The states that a client was in so far: `["Connecting 0", "Connected 40", "Waiting PongTimeout 80040"]`. */
export const statesOf = (client: Pick<Client.Client<unknown, never>, "changes">) =>
  Effect.gen(function*() {
    const states: Array<string> = []
    const record = Stream.runForEach(client.changes, (state) =>
      Effect.map(now, (at) => {
        const words = "error" in state ? [state._tag, tagOf(state.error), at] : [state._tag, at]
        states.push(words.join(" "))
      }))
    yield* Effect.forkScoped(record)
    return states
  })

// ---- both ends ------------------------------------------------------------------------------------------------------

export const port = 7000

/** Runs a Holdfast server on a host until the scope closes. */
export const serve = <In, Out, Session = void, E = never, EH = never, RO = never>(
  server: Mutants.Runtime["Server"],
  host: TestNetwork.Host,
  options: Server.Options<In, Out, Session, E, EH, Scope.Scope, Scope.Scope, RO>,
  listen?: TestNetwork.ListenOptions
) =>
  Effect.gen(function*() {
    const listener = yield* Effect.orDie(host.listen(port, listen))
    const running = Effect.provideService(server.run(options), SocketServer.SocketServer, listener)
    yield* Effect.forkScoped(host.run(running))
  })

/** The far end in the hands of the scenario: a peer that does what no Holdfast would. */
export interface Peer {
  readonly pull: Socket.Reader["pull"]
  readonly write: Socket.Writer["write"]
  /** Ends our side (FIN) and goes on reading. */
  readonly finish: Effect.Effect<void>
}

/** Opens a socket, until the scope closes. */
export const openRaw = Effect.fnUntraced(function*(
  socket: Socket.Socket
): Effect.fn.Return<Peer, Socket.SocketError, Scope.Scope> {
  const { pull } = yield* socket.reader
  const writing = yield* Effect.flatMap(Effect.scope, (scope) => Scope.fork(scope))
  const { write } = yield* Scope.provide(socket.writer, writing)
  return { pull, write, finish: Scope.close(writing, Exit.void) }
})

/** Accepts sockets on a host and runs `talk` with each until the scope closes. */
export const serveRaw = Effect.fnUntraced(function*(
  host: TestNetwork.Host,
  talk: (peer: Peer) => Effect.Effect<unknown, unknown, Scope.Scope>,
  listen?: TestNetwork.ListenOptions
) {
  const server = yield* Effect.orDie(host.listen(port, listen))
  const accept = (socket: Socket.Socket) =>
    Effect.flatMap(openRaw(socket), talk).pipe(Effect.scoped, Effect.ignoreCause)
  yield* Effect.forkScoped(server.run(accept))
})

/** Reads and drops everything. */
export const sink = (peer: Peer): Effect.Effect<never, Socket.SocketError> =>
  Effect.forever(peer.pull, { disableYield: true })
