/**
 * Questions and answers over connections that come and go: each answer finds the request it belongs to, and an error says
 * whether the peer may have seen the request.
 *
 * Use `make` where a client asks and a server answers, one answer for each question, in order or by an id. Use `duplex` where
 * one connection carries more: pushes, requests of the other end, streams of answers. For other messages use a `Connection`, or
 * a `ConnectionPool` of them, directly.
 *
 * @since 0.1.0
 */
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Scheduler from "effect/Scheduler"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Connection } from "./Connection.ts"
import * as ConnectionError from "./ConnectionError.ts"
import { atLeast } from "./internal/arguments/atLeast.ts"
import { millisOf } from "./internal/arguments/durations.ts"
import { within } from "./internal/endings/timeLimit.ts"
import { Attempts } from "./internal/request/attempts.ts"
import { DuplexRequests } from "./internal/request/duplex.ts"
import { Pipelines } from "./internal/request/pipelines.ts"
import { timersOf } from "./internal/scheduling/timers.ts"
import { turnsOf } from "./internal/scheduling/turns.ts"
import { traced } from "./internal/telemetry/spans.ts"
import { telemetryOf, timed } from "./internal/telemetry/telemetry.ts"
import * as Policy from "./Policy.ts"

type Failure = ConnectionError.ConnectionError

/**
 * What may differ from one request to the next.
 *
 * @category models
 * @since 0.1.0
 */
export interface Terms {
  /** From asking to the answer, waiting for a connection included; 0 is no limit. Default 30 s. */
  readonly deadline?: Duration.Input | undefined
  /** Whether doing it twice is as good as once: it may be sent again although a peer may have seen it. Default false. */
  readonly idempotent?: boolean | undefined
}

/**
 * How requests share connections, and when they are sent again. The fields of `Terms` are the defaults of each request.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<In, Out> extends Terms {
  /**
   * How many requests may be on their way over one connection. 1 (default): one at a time. More are pipelined; their
   * responses come in the order of the requests, or carry an id (`correlate`).
   */
  readonly inFlight?: number | undefined
  /** The most connections in use at a time. Default 8. */
  readonly connections?: number | undefined
  /**
   * How a request carries an id, and which one a response carries. `undefined`: no response; it is dropped.
   *
   * Where `request` throws, that request fails with `Defect`. Where `response` does, its connection ends with `Defect`, and
   * so does each request that the peer may have seen.
   */
  readonly correlate?: {
    /** Gives a request its id. */
    readonly request: (message: Out, id: number) => Out
    /** The id of the request that a message answers. */
    readonly response: (message: In) => number | undefined
  } | undefined
  /** How often a request is sent again when its connection ended and no peer can have seen it. Default 3. */
  readonly retries?: number | undefined
  /**
   * After which other ends of a connection a request is sent again, up to `retries` times: tags of reasons (`"Defect"`) and
   * codes that a peer gave (`4001`, `"4000-4099"`). Default: none. A request that the peer may have seen has to be
   * `idempotent` all the same. An unknown tag, or an entry that is in `giveUpOn` too, throws an `InvalidPolicy`.
   */
  readonly retryOn?: ReadonlyArray<Policy.RetryRule> | undefined
  /** After which ends of a connection a request is not sent again, even where that is safe. Default: none. */
  readonly giveUpOn?: ReadonlyArray<Policy.RetryRule> | undefined
}

/**
 * Asks questions over connections that it opens, shares and gives back.
 *
 * @category models
 * @since 0.1.0
 */
export interface Requests<out In, in Out = In> {
  /**
   * Asks, and waits for the answer.
   *
   * What becomes of it:
   * - success: the response to this request and no other.
   * - `OutcomeUnknown`: its connection ended when the peer may have seen it.
   * - `Defect`: something threw, in `correlate` or in the connection. The peer may have seen it, and it is not sent again.
   * - `RequestTimeout`: no answer within the deadline; the peer may have seen it.
   * - any other error: the peer has not seen it. It is the codec's, that of getting a connection, or why the last of its
   *   connections ended.
   */
  readonly request: (message: Out, terms?: Terms) => Effect.Effect<In, Failure>
}

const asked = { counter: "requests_total", histogram: "request_seconds", success: "answered" } as const

const deadlineOf = (input: Duration.Input): number => {
  const deadline = millisOf("deadline", input)
  return deadline === 0 ? Infinity : deadline
}

/**
 * Makes requests over the connections of a source: `pool.get`, `client.connection`, a dial, or one connection.
 *
 * **Details**
 *
 * A connection is taken when the first request needs it, shared by up to `inFlight` requests, and given back when the
 * last of them has its answer. `Scope` says where to: a pool keeps it, a dial of its own is closed.
 *
 * When a connection ends, the requests that its writer had not touched go to another one. The peer may have seen the others:
 * they fail with `OutcomeUnknown` unless they are `idempotent`. A request that gives up (deadline, interruption) leaves an
 * answer that may still come. That answer reaches no other request: its id tells it apart, or the connection takes no further
 * request and is closed after the last one that is on its way.
 *
 * A connection that cannot be opened fails a request at once: a pool or a client, as the source, has retries of its own. One that
 * takes longer to open than `Options.deadline` is given up and opened anew, so that a dial that hangs holds up no later request.
 *
 * **Gotchas**
 *
 * No other code may send or receive on a connection while requests use it. `overflow: "drop-oldest"` cannot keep responses
 * in step with requests: the connection is closed when it drops one.
 *
 * **Example** (A pipeline over a pool)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec, Connection, ConnectionPool, Request } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const lines = Connection.make({ codec: Codec.lines() })
 * const open = Effect.flatMap(Effect.orDie(Dialer.make("tcp://127.0.0.1:7000")), lines)
 *
 * const program = Effect.gen(function*() {
 *   const pool = yield* ConnectionPool.make(open, { max: 4 })
 *   const requests = yield* Request.make(pool.get, { inFlight: 32, connections: 4 })
 *   return yield* requests.request("what time is it?", { deadline: "2 seconds", idempotent: true })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*<In, Out, R = never>(
  source: Effect.Effect<Connection<In, Out>, Failure, R> | Connection<In, Out>,
  options?: Options<In, Out>
): Effect.fn.Return<Requests<In, Out>, never, Exclude<R, Scope.Scope> | Scope.Scope> {
  const inFlight = atLeast(1, "inFlight", options?.inFlight ?? 1)
  const connections = atLeast(1, "connections", options?.connections ?? 8)
  const retries = atLeast(0, "retries", options?.retries ?? 3)
  const limit = deadlineOf(options?.deadline ?? "30 seconds")
  const { correlate, idempotent = false } = options ?? {}
  const { giveUpOn, retryOn } = Policy.make({ giveUpOn: options?.giveUpOn, retryOn: options?.retryOn })
  const context = (yield* Effect.context<Exclude<R, Scope.Scope> | Scope.Scope>()) as Context.Context<never>
  const pipelines = new Pipelines<In, Out>({
    // what else it needs is in the context
    open: (Effect.isEffect(source) ? source : Effect.succeed(source)) as Effect.Effect<
      Connection<In, Out>,
      Failure,
      Scope.Scope
    >,
    inFlight,
    connections,
    dial: limit,
    idOf: correlate === undefined ? undefined : (message) => correlate.response(message),
    context,
    turns: turnsOf(yield* Scheduler.Scheduler)
  })
  const attempts = new Attempts(pipelines, {
    withId: correlate === undefined ? undefined : (message, id) => correlate.request(message, id),
    retries,
    retryOn,
    giveUpOn
  })
  const counted = timed(telemetryOf(context), timersOf(context).now, asked)
  const asking = (answer: Effect.Effect<In, Failure>) => traced("holdfast.request")(counted(answer))
  yield* Effect.addFinalizer(() => pipelines.close)
  return {
    request: (message, terms) => {
      const millis = terms?.deadline === undefined ? limit : deadlineOf(terms.deadline)
      const answer = attempts.request(message, terms?.idempotent ?? idempotent)
      return asking(within(ConnectionError.RequestTimeout, millis)(answer))
    }
  }
})

/**
 * Provides requests as a service, for as long as its layer is built.
 *
 * **When to use**
 *
 * Where a program asks one backend from many places. What `source` needs, such as a pool that is a service too, the layer
 * needs.
 *
 * **Gotchas**
 *
 * Options that make no sense are mistakes in the program: building the layer dies with them.
 *
 * **Example** (Questions to a backend, over a pool)
 *
 * ```ts
 * import { Context, Effect, Layer } from "effect"
 * import { Codec, Connection, ConnectionPool, Request } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const lines = Connection.make({ codec: Codec.lines() })
 * const open = Effect.flatMap(Effect.orDie(Dialer.make("tcp://127.0.0.1:7000")), lines)
 *
 * class Pool extends Context.Service<Pool, ConnectionPool.ConnectionPool<string>>()("app/Pool") {
 *   static readonly layer = ConnectionPool.layer(Pool, open, { max: 4 })
 * }
 *
 * class Backend extends Context.Service<Backend, Request.Requests<string>>()("app/Backend") {
 *   static readonly layer = Request.layer(Backend, Pool.use((pool) => pool.get), { inFlight: 32 }).pipe(
 *     Layer.provide(Pool.layer)
 *   )
 * }
 *
 * const program = Backend.use(({ request }) => request("what time is it?")).pipe(Effect.provide(Backend.layer))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <I, In, Out, R = never>(
  service: Context.Key<I, Requests<In, Out>>,
  source: Effect.Effect<Connection<In, Out>, Failure, R> | Connection<In, Out>,
  options?: Options<In, Out>
): Layer.Layer<I, never, Exclude<R, Scope.Scope>> =>
  Layer.effect(service, make(source, options)) as Layer.Layer<I, never, Exclude<R, Scope.Scope>>

/**
 * A connection for one request: dials, asks, closes. The deadline covers all of it.
 *
 * **Example** (One question)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Codec, Connection, Request } from "holdfast"
 * import { Dialer } from "holdfast/node"
 *
 * const lines = Connection.make({ codec: Codec.lines() })
 * const open = Effect.flatMap(Effect.orDie(Dialer.make("tcp://127.0.0.1:7000")), lines)
 *
 * const program = Request.once(open, "hello", { deadline: "2 seconds" })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const once = <In, Out, R>(
  open: Effect.Effect<Connection<In, Out>, Failure, R>,
  message: Out,
  terms?: Terms
): Effect.Effect<In, Failure, Exclude<R, Scope.Scope>> =>
  Effect.scoped(
    Effect.flatMap(make(open, { ...terms, connections: 1 }), (requests) => requests.request(message))
  ) as Effect.Effect<In, Failure, Exclude<R, Scope.Scope>>

// ---------------------------------------------------------------------------------------------------------------------
// requests beside pushes
// ---------------------------------------------------------------------------------------------------------------------

/**
 * How requests share a connection with everything else.
 *
 * @category models
 * @since 0.1.0
 */
export interface DuplexOptions<in In, in out Out> {
  /** What tells answers from pushes. What throws here ends its request with `Defect`, and in `response` or `isLast` the connection. */
  readonly correlate: {
    /** Gives a request its id: 1 and up, for each `duplex` its own. */
    readonly request: (message: Out, id: number) => Out
    /** The id of the request that a message answers; `undefined` is a push. A request of the other end is a push too. */
    readonly response: (message: In) => number | undefined
    /** Whether no other answer to the same request comes. Default: each answer is the last one. */
    readonly isLast?: ((message: In) => boolean) | undefined
    /** What tells the other end that nobody waits for an answer any more: sent after an interruption, and after a deadline. */
    readonly cancel?: ((id: number) => Out) | undefined
  }
  /** From asking to the answer; 0 is no limit. Default 30 s. */
  readonly deadline?: Duration.Input | undefined
  /** How many pushes wait to be taken. Default 256. */
  readonly pushes?: number | undefined
  /**
   * Where that many pushes wait. `suspend` (default): nothing more is read, answers neither, until one is taken, so the other
   * end has to wait. `sliding`: the oldest is dropped. `dropping`: the new one is.
   */
  readonly whenFull?: "suspend" | "sliding" | "dropping" | undefined
  /** How many answers of one `stream` wait to be taken. Nothing more is read then. Default 16. */
  readonly parts?: number | undefined
}

/**
 * One connection on which both ends ask and push.
 *
 * @category models
 * @since 0.1.0
 */
export interface Duplex<out In, in Out = In> {
  /**
   * Asks, and waits for the answer. The errors are those of `Requests.request`, and that of the connection where it had ended
   * before: nothing is sent twice.
   */
  readonly request: (message: Out, terms?: Pick<Terms, "deadline">) => Effect.Effect<In, Failure>
  /**
   * Asks when it is run, and is every answer up to the one that `isLast` tells. `deadline` (default: none) is the longest wait for
   * each of them. An end before the last answer is cancelled.
   */
  readonly stream: (message: Out, terms?: Pick<Terms, "deadline">) => Stream.Stream<In, Failure>
  /** Every message that answers no request, until the connection ends, then its failure. Each goes to one reader. */
  readonly pushes: Stream.Stream<In, Failure>
  /** Sends what wants no answer: a push, or the answer to a request of the other end. */
  readonly send: (message: Out) => Effect.Effect<void, Failure>
}

/**
 * Shares one connection between requests, the pushes of the other end, and its requests: for as long as the scope is open.
 *
 * **When to use**
 *
 * For protocols in which both ends speak unasked, such as JSON-RPC or a chat with commands: by a client over its connection, and
 * by a server in `handle`, which then asks its client.
 *
 * **Details**
 *
 * It is the only reader of the connection. When that ends, each request on its way fails: with `OutcomeUnknown` where the other
 * end may have seen it. When the scope closes, they fail with `Closed`; the connection stays open.
 *
 * **Gotchas**
 *
 * With `suspend` the answer to a request is behind the pushes that came before it. What takes the pushes must not wait for an answer
 * itself, unless it forks: run `pushes` in a fiber of its own, or choose another `whenFull`.
 *
 * **Example** (JSON-RPC in both directions)
 *
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { type Connection, Request } from "holdfast"
 * import { JsonRpc } from "holdfast/codecs"
 *
 * const program = Effect.fnUntraced(function*(connection: Connection.Connection<JsonRpc.Message>) {
 *   const duplex = yield* Request.duplex(connection, { correlate: JsonRpc.correlate })
 *   // what the other end asks and tells
 *   const respond = JsonRpc.respond(duplex.send, ({ method }) =>
 *     method === "ping" ? Effect.succeed("pong") : Effect.fail(JsonRpc.methodNotFound))
 *   yield* Effect.forkScoped(Stream.runForEach(duplex.pushes, respond))
 *   return yield* duplex.request({ _tag: "Request", id: 0, method: "time" }, { deadline: "2 seconds" })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const duplex = Effect.fnUntraced(function*<In, Out>(
  connection: Connection<In, Out>,
  options: DuplexOptions<In, Out>
): Effect.fn.Return<Duplex<In, Out>, never, Scope.Scope> {
  const capacity = atLeast(1, "pushes", options.pushes ?? 256)
  const parts = atLeast(1, "parts", options.parts ?? 16)
  const limit = deadlineOf(options.deadline ?? "30 seconds")
  const context = yield* Effect.context<never>()
  const pushed = yield* Queue.make<In, Failure>({ capacity, strategy: options.whenFull ?? "suspend" })
  const shared = new DuplexRequests<In, Out>(connection, { correlate: options.correlate, parts, context }, pushed)
  const counted = timed(telemetryOf(context), timersOf(context).now, asked)
  const asking = (answer: Effect.Effect<In, Failure>) => traced("holdfast.request")(counted(answer))
  const reader = shared.startReader()
  yield* Effect.addFinalizer(() => shared.close(reader))
  const millisOf = (terms: Pick<Terms, "deadline"> | undefined, otherwise: number): number =>
    terms?.deadline === undefined ? otherwise : deadlineOf(terms.deadline)
  return {
    request: (message, terms) =>
      asking(within(ConnectionError.RequestTimeout, millisOf(terms, limit))(shared.request(message))),
    stream: (message, terms) => shared.stream(message, millisOf(terms, Infinity)),
    pushes: shared.pushes,
    send: (message) => connection.send(message)
  }
})
