/** Spans: one for each connection, dial and request, where a tracer is there; nothing where none is. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import type { ConnectionError } from "../../ConnectionError.ts"
import { log } from "../scheduling/supervised.ts"

// a connection may live for years
const mostEvents = 64

/** How a connection may end without anything being wrong. */
const orderly: ReadonlySet<string> = new Set([
  "Closed",
  "GoingAway",
  "IdleTimeout",
  "MaxAge",
  "Superseded",
  "Swept"
])

/** Does something with a tracer. One that throws costs the span, and nothing of the connection. */
const guarded = <A>(context: Context.Context<never>, run: () => A): A | undefined => {
  try {
    return run()
  } catch (defect) {
    log(context, "the tracer failed at the span of a connection", Cause.die(defect))
    return undefined
  }
}

/** The span of a connection, from its opening to its end. */
export class ConnectionSpan {
  readonly span: Tracer.Span
  private readonly context: Context.Context<never>
  private events = 0

  constructor(span: Tracer.Span, context: Context.Context<never>) {
    this.span = span
    this.context = context
  }

  private get now(): bigint {
    return Context.get(this.context, Clock.Clock).currentTimeNanosUnsafe()
  }

  event(name: string, attributes?: Record<string, unknown>): void {
    if (this.events++ < mostEvents) guarded(this.context, () => this.span.event(name, this.now, attributes))
  }

  end(error: ConnectionError, attributes: Record<string, unknown>): void {
    guarded(this.context, () => {
      for (const [name, value] of Object.entries(attributes)) {
        if (value !== undefined) this.span.attribute(`holdfast.${name}`, value)
      }
      this.span.end(this.now, orderly.has(error.reason._tag) ? Exit.void : Exit.fail(error))
    })
  }
}

/**
 * Begins the span of a connection. That of a server is the root of a trace: it would be part of a trace that lasts as long as
 * the server.
 */
export const connectionSpan = (
  context: Context.Context<never>,
  isServer: boolean,
  attributes: Record<string, unknown>
): ConnectionSpan | undefined => {
  const tracer = Context.getOrUndefined(context, Tracer.Tracer)
  if (tracer === undefined || !Context.get(context, References.TracerEnabled)) return undefined
  const parent = isServer ? Option.none<Tracer.AnySpan>() : Context.getOption(context, Tracer.ParentSpan)
  return guarded(context, () => {
    const span = tracer.span({
      name: "holdfast.connection",
      parent,
      annotations: Context.empty(),
      links: [],
      startTime: Context.get(context, Clock.Clock).currentTimeNanosUnsafe(),
      kind: isServer ? "server" : "client",
      root: isServer,
      sampled: Option.isNone(parent) || parent.value.sampled
    })
    for (const [name, value] of Object.entries(attributes)) if (value !== undefined) span.attribute(name, value)
    return new ConnectionSpan(span, context)
  })
}

/** Runs an effect in a span of its own, where a tracer is there; its parent is the span it is run in. */
export const traced = (name: string) => <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber): Effect.Effect<A, E, R> => {
    const { tracer, tracerEnabled } = fiber.cache
    return tracer === undefined || !tracerEnabled
      ? effect
      : Effect.withSpan(effect, name, { kind: "client", captureStackTrace: false }) as Effect.Effect<A, E, R>
  })
