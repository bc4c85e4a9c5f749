/** Opens a connection over a socket: its transport, its conversation, and the handle that its user gets. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Socket from "effect/socket/Socket"
import * as ConnectionError from "../../../ConnectionError.ts"
import { decoderOf } from "../../codec/assembly.ts"
import { within } from "../../endings/timeLimit.ts"
import { CurrentBudget } from "../../memory/budget.ts"
import { schedulingOf } from "../../scheduling/timers.ts"
import { connectionSpan } from "../../telemetry/spans.ts"
import { telemetryOf } from "../../telemetry/telemetry.ts"
import { type Attachable, attachable, type Source } from "../../transport/accepted.ts"
import { type Transport, transportOf, type WebSocketLink } from "../../transport/transport.ts"
import { type StreamDecoder, webSocketDecoderOf } from "../../webSocket/decoder.ts"
import { acts, releaseWith, start } from "../conversation.ts"
import { AtServer } from "../core/limits.ts"
import type { Setup, WireFormat } from "../core/setup.ts"
import { Conversation, type Opener } from "../core/state.ts"
import { ShortCuts } from "../fiberShortCuts.ts"
import { sourceOf } from "../reader.ts"
import { Handle } from "./handle.ts"
import { takeId } from "./internals.ts"

type Failure = ConnectionError.ConnectionError

/** Called when a transport is open, and what is left is a conversation: of what dials, for its limits. */
export const WhenOpen = Context.Reference<() => void>("holdfast/connection/WhenOpen", {
  defaultValue: () => () => {}
})

const hasMessages = (
  transport: Transport,
  named: "stream" | "messages" | undefined,
  context: Context.Context<never>
): boolean =>
  named === undefined
    ? transport.messages || Context.getOption(context, Socket.WebSocket)._tag === "Some"
    : named === "messages"

/** What it reads and writes by: the frames of a WebSocket, or the codec's, or none. */
const wayOf = <In, Out>(
  setup: Setup<In, Out>,
  messages: boolean,
  link: WebSocketLink | undefined
): Pick<Prepared<In, Out>, "decoder" | "way"> => {
  const { maxDecoded, maxFrame } = setup.inForce.policy
  if (link !== undefined) {
    const compression = link.compression?.()
    return {
      way: setup.webSocket(link, compression),
      decoder: webSocketDecoderOf(setup.codec, link.role, { maxFrame }, compression)
    }
  }
  return {
    way: messages ? setup.messages : setup.stream,
    decoder: decoderOf(setup.codec, { maxFrame, maxDecoded, transport: messages ? "messages" : "stream" }, true)
  }
}

/** What a connection has before its transport is open: the codec, the heartbeat and their like may be the application's code. */
interface Prepared<In, Out> {
  readonly setup: Setup<In, Out>
  readonly context: Context.Context<Scope.Scope>
  readonly transport: Transport
  readonly messages: boolean
  readonly link: WebSocketLink | undefined
  readonly way: WireFormat<Out>
  readonly decoder: StreamDecoder<In>
}

/** A dialler knows what the upgrade came to when the transport is open. */
const agreed = <In, Out>(prepared: Prepared<In, Out>): Prepared<In, Out> => {
  const { link, messages, setup } = prepared
  return link?.compression === undefined ? prepared : { ...prepared, ...wayOf(setup, messages, link) }
}

/** Starts the conversation over a transport that is open. A throw is that of the heartbeat's `reader`. */
const converse = <In, Out>(
  { context, decoder, messages, setup, transport, way }: Prepared<In, Out>,
  opener: Opener,
  writer: Socket.Writer,
  source: Source
): Conversation<In, Out> => {
  const { clock, timers, turns } = schedulingOf(context)
  Context.get(context, WhenOpen)()
  const c = new Conversation({
    setup,
    transport,
    messages,
    decoder,
    way,
    id: takeId(),
    acts,
    context,
    writer,
    source,
    opener,
    clock,
    turns,
    timers,
    budget: Context.get(context, CurrentBudget),
    ageFactor: 0.9 + 0.2 * Context.get(context, Random.Random).nextDoubleUnsafe(),
    direct: Context.get(context, ShortCuts)
  })
  telemetryOf(context)?.connections.open(c)
  c.span = connectionSpan(context, Context.get(context, AtServer) !== undefined, {
    "holdfast.connection.id": c.id,
    "network.peer.address": transport.remote,
    "network.local.address": transport.local
  })
  start(c)
  return c
}

const owned = <In, Out>(c: Conversation<In, Out>, scope: Scope.Scope): Effect.Effect<Handle<In, Out>> =>
  Effect.as(Scope.addFinalizerExit(scope, (exit) => releaseWith(c, exit)), new Handle(c))

/** One that is connected already: there is nothing to wait for, and nothing for a scope to own but the connection. */
const attach = <In, Out>(
  transport: Attachable,
  prepared: Prepared<In, Out>
): Effect.Effect<Handle<In, Out>, Failure, Scope.Scope> => {
  const failure = transport.attach()
  if (failure !== undefined) return Effect.fail(ConnectionError.fromSocketError(failure))
  try {
    const c = converse(prepared, transport, transport, transport)
    return owned(c, Context.get(prepared.context, Scope.Scope))
  } catch (defect) {
    transport.detach()
    throw defect
  }
}

const opening = Effect.fnUntraced(function*<In, Out>(
  socket: Socket.Socket,
  prepared: Prepared<In, Out>,
  restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
): Effect.fn.Return<Handle<In, Out>, Failure, Scope.Scope> {
  const { open } = prepared.setup.inForce.limits
  // closed when the conversation ends, which may be long before the user's scope closes
  const transportScope = Scope.makeUnsafe()

  // the dialling scope does not own the transport yet
  const orRelease = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.onError(effect, () => Scope.close(transportScope, Exit.void))

  const { pull } = yield* Scope.provide(socket.reader, transportScope).pipe(
    Effect.mapError(ConnectionError.fromSocketError),
    within(ConnectionError.OpenTimeout, open),
    restore,
    orRelease
  )

  // in the transport's scope: releasing it half-closes, and the last words come after the writer has ended
  const c = yield* Scope.provide(socket.writer, transportScope).pipe(
    Effect.map((writer) => converse(agreed(prepared), transportScope, writer, sourceOf(pull, prepared.transport))),
    orRelease
  )
  // runs before the transport is released: finalizers run last in, first out
  return yield* owned(c, Context.get(prepared.context, Scope.Scope))
})

export const open = <In, Out>(
  socket: Socket.Socket,
  setup: Setup<In, Out>
): Effect.Effect<Handle<In, Out>, Failure, Scope.Scope> =>
  // only dialling can be interrupted: whatever it opened has an owner when the next interruption is looked at
  Effect.uninterruptibleMask((restore) =>
    Effect.contextWith((context: Context.Context<Scope.Scope>) => {
      const transport = transportOf(socket)
      // named a stream, its messages are pieces of one
      const link = setup.transport === "stream" ? undefined : transport.webSocket
      const inner = link === undefined ? socket : link.stream
      const carrier = link === undefined ? transport : transportOf(inner)
      const messages = link === undefined && hasMessages(transport, setup.transport, context)
      const prepared = { setup, context, transport: carrier, messages, link, ...wayOf(setup, messages, link) }
      const there = attachable(inner, carrier)
      return there === undefined ? opening(inner, prepared, restore) : attach(there, prepared)
    })
  )
