/** The calls that the suite makes, and a server that keeps a record of what became of each. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import { Rpc, RpcGroup } from "effect/rpc"
import * as RpcSchema from "effect/rpc/RpcSchema"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { until } from "../../node/fixtures/kit.ts"

export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { id: Schema.Number }) {}
export class Denied extends Schema.TaggedError<Denied>()("Denied", { why: Schema.String }) {}

const Rich = Schema.Struct({
  at: Schema.Date,
  big: Schema.BigInt,
  some: Schema.Option(Schema.String),
  bytes: Schema.Uint8Array,
  map: Schema.ReadonlyMap(Schema.String, Schema.Number)
})

export class Calls extends RpcGroup.make(
  Rpc.make("Echo", { payload: { text: Schema.String }, success: Schema.String }),
  Rpc.make("Rich", { payload: { value: Rich }, success: Rich }),
  Rpc.make("Nothing"),
  Rpc.make("Add", { payload: { a: Schema.Number, b: Schema.Number }, success: Schema.Number }),
  Rpc.make("Find", { payload: { id: Schema.Number }, success: Schema.String, error: Schema.Union([NotFound, Denied]) }),
  Rpc.make("Die", { payload: { what: Schema.String } }),
  Rpc.make("Throw"),
  Rpc.make("Wrong", { success: Schema.Number }),
  Rpc.make("Strict", { payload: { n: Schema.Number.check(Schema.isLessThan(10)) }, success: Schema.Number }),
  Rpc.make("Grow", { payload: { size: Schema.Number }, success: Schema.String }),
  Rpc.make("Blob", { payload: { bytes: Schema.Uint8Array }, success: Schema.Uint8Array }),
  Rpc.make("Hang", { payload: { key: Schema.String }, success: Schema.String }),
  Rpc.make("Give", { payload: { key: Schema.String } }),
  Rpc.make("Stop", { payload: { key: Schema.String }, success: Schema.String }),
  Rpc.make("Mark", { payload: { key: Schema.String } }),
  Rpc.make("Head", { payload: { name: Schema.String }, success: Schema.NullOr(Schema.String) }),
  Rpc.make("Count", { payload: { to: Schema.Number }, success: RpcSchema.Stream(Schema.Number, Schema.Never) }),
  Rpc.make("Wide", {
    payload: { to: Schema.Number, size: Schema.Number },
    success: RpcSchema.Stream(Schema.String, Schema.Never)
  }),
  Rpc.make("Fails", { payload: { after: Schema.Number }, success: RpcSchema.Stream(Schema.Number, NotFound) }),
  Rpc.make("Dies", { payload: { after: Schema.Number }, success: RpcSchema.Stream(Schema.Number, Schema.Never) }),
  Rpc.make("Endless", { payload: { key: Schema.String }, success: RpcSchema.Stream(Schema.Number, Schema.Never) }),
  Rpc.make("Queued", { payload: { to: Schema.Number }, success: RpcSchema.Stream(Schema.Number, Schema.Never) }),
  Rpc.make("Silent", { payload: { key: Schema.String }, success: RpcSchema.Stream(Schema.Number, Schema.Never) })
) {}

/** What the client alone knows. */
export class More extends RpcGroup.make(
  Rpc.make("Unknown", { success: Schema.String }),
  Rpc.make("Strict", { payload: { n: Schema.Number }, success: Schema.Number })
) {}

/** What happened at the server, by the key of a call. */
export class Record {
  readonly began = new Set<string>()
  readonly interrupted = new Set<string>()
  readonly done = new Set<string>()
  readonly made = new Map<string, number>()
  readonly gates = new Map<string, () => void>()

  wait(what: "began" | "interrupted" | "done", key: string): Effect.Effect<void> {
    return until(`${what} ${key}`, () => this[what].has(key))
  }
}

const endless = (record: Record, key: string): Stream.Stream<number> =>
  Stream.fromEffectRepeat(Effect.sync(() => {
    const n = record.made.get(key) ?? 0
    record.began.add(key)
    record.made.set(key, n + 1)
    return n
  })).pipe(Stream.rechunk(1), Stream.ensuring(Effect.sync(() => record.done.add(key))))

export const handlers = (record: Record) =>
  Calls.toLayer({
    Echo: ({ text }) => Effect.succeed(text),
    Rich: ({ value }) => Effect.succeed(value),
    Nothing: () => Effect.void,
    Add: ({ a, b }) => Effect.as(Effect.yieldNow, a + b),
    Find: ({ id }): Effect.Effect<string, NotFound | Denied> =>
      id < 0
        ? Effect.fail(new Denied({ why: "negative" }))
        : id > 9
        ? Effect.fail(new NotFound({ id }))
        : Effect.succeed(`item ${id}`),
    Die: ({ what }) => Effect.die(new Error(what)),
    Throw: (): Effect.Effect<void> => {
      throw new Error("thrown")
    },
    Wrong: () => Effect.succeed("not a number" as never),
    Strict: ({ n }) => Effect.succeed(n),
    Grow: ({ size }) => Effect.sync(() => "x".repeat(size)),
    Blob: ({ bytes }) => Effect.succeed(bytes.toReversed()),
    Hang: ({ key }) =>
      Effect.callback<string>((resume) => {
        record.began.add(key)
        record.gates.set(key, () => resume(Effect.succeed(`gave ${key}`)))
      }).pipe(
        Effect.onInterrupt(() => Effect.sync(() => record.interrupted.add(key))),
        Effect.ensuring(Effect.sync(() => record.done.add(key)))
      ),
    Give: ({ key }) => Effect.sync(() => record.gates.get(key)?.()),
    Stop: ({ key }) => Effect.andThen(Effect.sync(() => record.began.add(key)), Effect.interrupt),
    Mark: ({ key }) => Effect.sync(() => void record.done.add(key)),
    Head: ({ name }, { headers }) => Effect.succeed(headers[name] ?? null),
    Count: ({ to }) => Stream.range(1, to),
    Wide: ({ size, to }) => Stream.range(1, to).pipe(Stream.map((n) => String(n).padStart(size, "."))),
    Fails: ({ after }) => Stream.concat(Stream.range(1, after), Stream.fail(new NotFound({ id: after }))),
    Dies: ({ after }) => Stream.concat(Stream.range(1, after), Stream.die(new Error(`after ${after}`))),
    Endless: ({ key }) => endless(record, key),
    Queued: Effect.fnUntraced(function*({ to }) {
      const queue = yield* Queue.make<number, Cause.Done>()
      Queue.offerAllUnsafe(queue, Array.from({ length: to }, (_, i) => i))
      Queue.endUnsafe(queue)
      return queue
    }),
    Silent: ({ key }) =>
      Stream.fromEffect(Effect.andThen(Effect.sync(() => record.began.add(key)), Effect.never)).pipe(
        Stream.ensuring(Effect.sync(() => record.done.add(key)))
      )
  })
