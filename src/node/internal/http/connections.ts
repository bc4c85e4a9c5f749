/** The connections of an HTTP server, from their accept to their end: admission, registration, deadlines, the stop. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type * as Net from "node:net"
import * as ConnectionError from "../../../ConnectionError.ts"
import * as Defects from "../../../internal/endings/defects.ts"
import type { Budget } from "../../../internal/memory/budget.ts"
import { logLine } from "../../../internal/reasons/logs.ts"
import * as Supervised from "../../../internal/scheduling/supervised.ts"
import { schedulingOf, type Timer, timersOf } from "../../../internal/scheduling/timers.ts"
import { Admission, type Applicant, type Limit } from "../../../internal/server/admission.ts"
import { begin, cutShort } from "../../../internal/server/draining.ts"
import type { Registry } from "../../../Registry.ts"
import type { Header } from "../../Proxy.ts"
import * as Address from "../addresses/address.ts"
import type { Behind } from "../proxy/behind.ts"
import { name } from "../proxy/named.ts"
import { receive } from "../proxy/receive.ts"
import { linger, noop, setTcp, type Tcp, tcpOf } from "../stream/tcp.ts"
import { handshakes } from "../tls/handshakes.ts"
import { asConnection, HttpConnection } from "./connection.ts"
import type { Refusing } from "./refusing.ts"
import { checkEvery, type Prepared, type Settings } from "./settings.ts"

const busy = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"

// how many may have a PROXY header ahead, as the `maxPending` of a listener
const mostAnonymous = 1024

/** What a registry is to us: it takes connections without a session. */
type Registrar<In, Out> = Pick<Registry<In, Out, undefined>, "add">

export class Connections<in out In, in out Out> {
  /** Those that speak HTTP: past their TLS handshake, and not upgraded. */
  readonly open = new Map<Net.Socket, HttpConnection>()
  private readonly settings: Settings
  private readonly context: Context.Context<never>
  private readonly registry: Registrar<In, Out> | undefined
  private readonly secure: ReturnType<typeof handshakes> | undefined
  /** The peer's end of a Unix socket. */
  private readonly path: string | undefined
  private readonly tcp: Tcp
  private readonly admission: Admission
  private readonly budget: Budget | undefined
  private readonly onOpen: (conn: Net.Socket) => void
  /** Everything accepted: also what waits, is in a TLS handshake, or was upgraded. */
  private readonly accepted = new Set<Net.Socket>()
  private readonly registrations = new WeakMap<HttpConnection, Scope.Closeable>()
  private readonly address: Address.Address
  private readonly behind: Behind
  /** How many have a `PROXY` header ahead. */
  private anonymous = 0
  private readonly refusals: Refusing
  /** Those that a stop waits for. */
  private readonly finishing = new Set<HttpConnection>()
  private readonly quiet = Deferred.makeUnsafe<void>()
  /** Whether one was not done within `Policy.drain` when the server stopped. */
  private hasCut = false
  /** How many were accepted. */
  count = 0

  /** `onOpen` gets each connection when its turn has come, secured. */
  constructor(
    { address, behind, securing, settings }: Prepared,
    context: Context.Context<never>,
    registry: Registrar<In, Out> | undefined,
    refusals: Refusing,
    budget: Budget | undefined,
    onOpen: (conn: Net.Socket) => void
  ) {
    this.settings = settings
    this.context = context
    this.registry = registry
    this.address = address
    this.behind = behind
    this.secure = securing === undefined ? undefined : handshakes(securing, settings.linger)
    this.refusals = refusals
    this.path = address.scheme === "unix" ? `unix:${address.path}` : undefined
    this.tcp = tcpOf(settings.policy)
    this.admission = new Admission(settings.policy, timersOf(context), budget)
    this.budget = budget
    this.onOpen = onOpen
    begin()
  }

  // ---- admission ----------------------------------------------------------------------------------------------------

  /** Takes a connection that is paused. It is counted until it is closed. */
  accept(conn: Net.Socket): void {
    const { accepted, address, behind, path } = this
    this.count++
    conn.on("error", noop)
    accepted.add(conn)
    if (path === undefined) setTcp(conn, this.tcp)
    conn.once("close", () => accepted.delete(conn))
    if (!behind.sendsHeader(conn, address)) return this.apply(conn)
    const { done, fail } = this.refusals.ahead(conn, this.remoteOf(conn), () => this.anonymous--)
    this.anonymous++
    if (this.anonymous > mostAnonymous) return fail({ _tag: "TooMany", limit: "maxPending", allowed: mostAnonymous })
    receive(conn, (header) => {
      if (conn.destroyed) return
      done()
      name(conn, header)
      this.apply(conn, header)
    }, (cause) => fail({ _tag: "Failed", cause }))
  }

  private remoteOf(conn: Net.Socket): string | undefined {
    return this.path ?? Address.remoteOf(conn)
  }

  private apply(conn: Net.Socket, header?: Header): void {
    const { admission, behind: { forwarding } } = this
    const remoteOf = (): string | undefined => header?.source ?? this.remoteOf(conn)
    const applicant: Applicant = {
      get remote() {
        const remote = remoteOf()
        // the requests of many clients come over it
        return forwarding?.isTrusted(remote) === true ? undefined : remote
      },
      host: undefined,
      standing: "outside",
      onTurn: () => applicant.standing === "admitted" ? this.admit(conn, header) : this.refuse(conn, "stopping")
    }
    conn.once("close", () => admission.leave(applicant))
    const entered = admission.enter(applicant)
    if (entered === "admitted") this.admit(conn, header)
    else if (entered !== "waiting") this.refuse(conn, entered)
  }

  private admit(conn: Net.Socket, header: Header | undefined): void {
    const { secure } = this
    if (secure === undefined) return this.opened(conn)
    const { done, fail } = this.refusals.ahead(conn, header?.source ?? this.remoteOf(conn))
    secure(conn, (secured) => {
      done()
      // what is on top has the name of what is below
      if (header !== undefined) name(secured, header)
      this.opened(secured)
    }, (cause, isToldWhy) => fail({ _tag: "Failed", cause }, isToldWhy))
    conn.resume()
  }

  private opened(conn: Net.Socket): void {
    const { pipeline } = this.follow(conn)
    this.onOpen(conn)
    pipeline.begin()
  }

  /** Memory is not tight any more. */
  memoryFreed(): void {
    this.admission.memoryFreed()
  }

  private refuse(conn: Net.Socket, limit: Limit): void {
    this.refusals.limited(this.remoteOf(conn), limit)
    // a peer cannot be told anything before its TLS handshake
    if (this.secure !== undefined) {
      conn.destroy()
      return
    }
    conn.end(busy)
    linger(conn, this.settings.linger)
  }

  // ---- connections that speak HTTP ----------------------------------------------------------------------------------

  private follow(conn: Net.Socket): HttpConnection {
    const { budget, context, registry } = this
    const openedAt = Context.get(context, Clock.Clock).currentTimeMillisUnsafe()
    const connection = new HttpConnection(conn, this.settings, openedAt)
    if (budget !== undefined) {
      connection.pipeline.countIn(
        budget,
        schedulingOf(context),
        (allowed) => connection.refuse(new ConnectionError.Refused({ limit: "memory", allowed }), "memory")
      )
    }
    this.open.set(conn, connection)
    conn.once("close", () => this.forget(conn))
    if (registry !== undefined) this.register(registry, connection)
    // its TLS handshake took until now
    if (this.admission.isStopping) this.finish(connection)
    return connection
  }

  /** Registers a connection within `handshake`. One that is not registered cannot be seen, or asked to leave: it is ended. */
  private register(registry: Registrar<In, Out>, connection: HttpConnection): void {
    const { context, settings: { handshake } } = this
    const { conn } = connection
    const scope = Scope.makeUnsafe()
    this.registrations.set(connection, scope)
    let timer: Timer | undefined = undefined
    const added = Effect.suspend(() => registry.add(asConnection(connection), { tags: ["http"] }, undefined))
    const name = "registration of an HTTP connection"
    const fiber = Supervised.spawn(context, name, Scope.provide(added, scope), (exit) => {
      timer?.cancel()
      if (Exit.isSuccess(exit) || conn.destroyed) return
      connection.refuse(Defects.errorNow(context, "registry", exit.cause, { remote: Address.remoteOf(conn) }).reason)
    })
    // nearly every registration is there at once, and needs neither
    if (fiber.pollUnsafe() !== undefined) return
    conn.once("close", () => fiber.interruptUnsafe())
    if (handshake === 0) return
    timer = timersOf(context).after(handshake, () => {
      if (conn.destroyed) return
      const late = logLine("Warn", `a registry took longer than ${handshake} ms to take an HTTP connection`)
      Supervised.spawn(context, "log", Effect.annotateLogs(late, { remote: Address.remoteOf(conn) }), noop)
      connection.refuse(new ConnectionError.HandshakeTimeout({ limit: handshake }))
    })
  }

  /** It became a WebSocket. */
  upgraded(conn: Net.Socket): void {
    const connection = this.open.get(conn)
    connection?.upgraded()
    // what it is now counts for itself
    connection?.pipeline.countOut()
    this.forget(conn)
  }

  private forget(conn: Net.Socket): void {
    const { context, open, registrations } = this
    const connection = open.get(conn)
    if (connection === undefined) return
    open.delete(conn)
    if (this.admission.isStopping && connection.explain().deadline === "drain") this.hasCut = true
    const registration = registrations.get(connection)
    if (registration !== undefined) {
      const removed = Scope.close(registration, Exit.void)
      Supervised.spawn(context, "registration of an HTTP connection", removed, (exit) => {
        if (Exit.isFailure(exit)) Defects.logNow(context, "registry", exit.cause)
      })
    }
    if (this.finishing.delete(connection) && this.finishing.size === 0) Deferred.doneUnsafe(this.quiet, Exit.void)
  }

  /** Watches the deadlines that Node does not have. */
  readonly watch: Effect.Effect<never> = Effect.suspend(() => {
    const period = checkEvery(this.settings)
    let checked = performance.now()
    return Effect.forever(Effect.map(Effect.sleep(period), () => {
      const at = performance.now()
      // so late that we were busy ourselves, and the peers could not show what they took
      const unfair = at - checked > 1.5 * period
      checked = at
      for (const connection of this.open.values()) connection.check(at, unfair)
    }))
  })

  // ---- the end ------------------------------------------------------------------------------------------------------

  /** Refuses connections that wait or come, and lets the others finish their answers. */
  stop(): void {
    this.admission.stop()
    for (const connection of this.open.values()) this.finish(connection)
  }

  private finish(connection: HttpConnection): void {
    // a WebSocket of the application's may go on for ever: its handler is interrupted when the answers have left
    if (!connection.account.isForeign) this.finishing.add(connection)
    connection.leave(new ConnectionError.GoingAway({}), "Draining", "stop")
  }

  /** Waits until all are done that answer requests, for `Policy.drain` at most. */
  readonly drained: Effect.Effect<unknown> = Effect.suspend(() => {
    const { drain } = this.settings
    if (drain === 0 || this.finishing.size === 0) return Effect.void
    return Effect.map(Effect.timeoutOption(Deferred.await(this.quiet), drain), (within) => {
      if (this.hasCut || Option.isNone(within)) cutShort()
    })
  })

  /** Also those that waited, are in a TLS handshake, or were upgraded. */
  destroyAll(): void {
    this.refusals.isClosed = true
    for (const conn of this.accepted) conn.destroy()
  }
}
