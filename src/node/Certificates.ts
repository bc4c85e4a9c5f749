/**
 * Certificates of a server that are renewed while it runs: no connection is dropped, and the next one sees the new ones.
 *
 * `files` reads them from files, and reads again when those change; `make` gets them from an effect. A `Listener` takes the
 * value as its option `certificates`.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs/promises"
import { logLine } from "../internal/reasons/logs.ts"
import { background } from "../internal/scheduling/supervised.ts"
import * as Material from "./internal/tls/material.ts"
import type { Checked } from "./internal/tls/securing.ts"

/**
 * A certificate and its key, as PEM; intermediate certificates follow the certificate in the same text.
 *
 * @category models
 * @since 0.1.0
 */
export interface Pair {
  readonly cert: string | Uint8Array
  readonly key: string | Uint8Array | Redacted.Redacted<string | Uint8Array>
  /** Opens an encrypted `key`. */
  readonly passphrase?: string | Redacted.Redacted<string> | undefined
}

/**
 * What a server shows, and whom it trusts.
 *
 * @category models
 * @since 0.1.0
 */
export interface Loaded extends Pair {
  /** When given, a client has to show a certificate that one of these authorities (PEM) signed. */
  readonly ca?: string | Uint8Array | ReadonlyArray<string | Uint8Array> | undefined
  /**
   * Other certificates, by the name that a client asks for (SNI): `api.example.com`, or `*.example.com` for one label in
   * place of the star. A client that asks for another name, or for none, gets `cert`.
   */
  readonly names?: { readonly [name: string]: Pair } | undefined
}

/**
 * The files of a `Loaded`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Files {
  readonly cert: string
  readonly key: string
  readonly ca?: string | undefined
  readonly passphrase?: string | Redacted.Redacted<string> | undefined
  readonly names?: { readonly [name: string]: { readonly cert: string; readonly key: string } } | undefined
}

/**
 * Certificates that cannot be read or used. `detail` says what is wrong, and with which part.
 *
 * @category errors
 * @since 0.1.0
 */
export class CertificatesFailed extends Schema.TaggedError<CertificatesFailed>()("CertificatesFailed", {
  detail: Schema.String
}) {
  override get message(): string {
    return `the certificates cannot be used: ${this.detail}`
  }
}

/**
 * Certificates which any number of listeners share.
 *
 * @category models
 * @since 0.1.0
 */
export interface Certificates<out E = CertificatesFailed> {
  /** Only for listeners of the library. */
  readonly "~holdfast/node/Certificates": () => unknown
  /**
   * Gets them again, and gives them to the connections that come from then on. Where that fails, or where they make no sense,
   * those from before stay in use. Run it on a signal, or when a store of secrets says so.
   *
   * Of several at once, the one that began last and did not fail decides, in whatever order they end.
   */
  readonly renew: Effect.Effect<void, E>
}

const check = ({ names = {}, ...own }: Loaded): Result.Result<Checked, CertificatesFailed> => {
  const checked = Result.gen(function*() {
    const others = new Map<string, Material.TlsOptions>()
    for (const [name, pair] of Object.entries(names)) {
      const options = yield* Result.mapError(Material.tlsOptions(pair), (detail) => `${name}: ${detail}`)
      others.set(name.toLowerCase(), options)
    }
    return { own: yield* Material.tlsOptions(own), names: others }
  })
  return Result.mapError(checked, (detail) => new CertificatesFailed({ detail }))
}

/**
 * Makes certificates of an effect that gets them: now, and at each `renew`.
 *
 * **Gotchas**
 *
 * Sessions of before are not resumed after a renewal: those clients shake hands in full.
 *
 * **Example** (Renewed every hour)
 *
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { Certificates, Listener } from "holdfast/node"
 *
 * declare const fromStore: Effect.Effect<{ readonly cert: string; readonly key: string }>
 *
 * const listener = Effect.gen(function*() {
 *   const certificates = yield* Certificates.make(fromStore)
 *   yield* Effect.forkScoped(Effect.repeat(Effect.ignore(certificates.renew), Schedule.spaced("1 hour")))
 *   return yield* Listener.make("tls://0.0.0.0:7001", { certificates })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <E, R>(
  load: Effect.Effect<Loaded, E, R>
): Effect.Effect<Certificates<E | CertificatesFailed>, E | CertificatesFailed, R> =>
  Effect.gen(function*() {
    const context = yield* Effect.context<R>()
    const get = Effect.flatMap(load, (loaded) => Effect.fromResult(check(loaded)))
    let now = yield* get
    let begun = 0
    let used = 0
    return {
      "~holdfast/node/Certificates": () => now,
      renew: Effect.suspend(() => {
        const number = ++begun
        return Effect.map(Effect.provideContext(get, context), (next) => {
          // one that began later has got newer ones
          if (number < used) return
          used = number
          now = next
        })
      })
    }
  })

const read = (name: string, path: string): Effect.Effect<string, CertificatesFailed> =>
  Effect.tryPromise({
    try: async () => {
      // one that nothing writes to blocks a thread, which keeps the process from exiting
      if ((await Fs.stat(path)).isFIFO()) throw new Error("it is a pipe, which cannot be read again: give a file")
      return Fs.readFile(path, "utf8")
    },
    catch: (cause) => new CertificatesFailed({ detail: `${name} ${path}: ${(cause as Error).message}` })
  })

const readAll = ({ ca, cert, key, names = {}, passphrase }: Files): Effect.Effect<Loaded, CertificatesFailed> =>
  Effect.gen(function*() {
    const others: Record<string, Pair> = {}
    for (const [name, pair] of Object.entries(names)) {
      others[name] = { cert: yield* read(name, pair.cert), key: yield* read(name, pair.key) }
    }
    return {
      cert: yield* read("cert", cert),
      key: yield* read("key", key),
      ca: ca === undefined ? undefined : yield* read("ca", ca),
      passphrase,
      names: others
    }
  })

/**
 * Certificates from files, which are looked at again `every` so often, until the scope closes.
 *
 * **Details**
 *
 * Files are compared by what is in them, so any way to replace them will do. A pipe is refused: it cannot be read again. A change that cannot be used, such as a certificate
 * whose key is not there yet, is logged as a warning once, and those from before stay in use until the files change again.
 * `every` is 10 s by default; `"Infinity"` looks only when `renew` is run.
 *
 * **Example** (Renewed by a cron job, or by SIGHUP)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Certificates, Listener } from "holdfast/node"
 *
 * const listener = Effect.gen(function*() {
 *   const certificates = yield* Certificates.files({ cert: "/etc/tls/cert.pem", key: "/etc/tls/key.pem" })
 *   process.on("SIGHUP", () => Effect.runFork(Effect.ignore(certificates.renew)))
 *   return yield* Listener.make("wss://0.0.0.0:8443/live", { certificates })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const files = (
  paths: Files,
  options: { readonly every?: Duration.Input | undefined } = {}
): Effect.Effect<Certificates, CertificatesFailed, Scope.Scope> =>
  Effect.gen(function*() {
    let seen: string | undefined
    const load = Effect.tap(readAll(paths), (loaded) =>
      Effect.sync(() => {
        seen = JSON.stringify({ ...loaded, passphrase: undefined })
      }))
    const certificates = yield* make(load)
    const every = Duration.max(Duration.fromInputUnsafe(options.every ?? "10 seconds"), Duration.millis(1))
    const look = Effect.gen(function*() {
      const found = yield* readAll(paths)
      if (JSON.stringify({ ...found, passphrase: undefined }) !== seen) yield* certificates.renew
    })
    let told = ""
    const watch = Effect.forever(Effect.andThen(
      Effect.sleep(every),
      Effect.matchEffect(look, {
        onSuccess: () => Effect.sync(() => void (told = "")),
        onFailure: ({ message }) => {
          if (message === told) return Effect.void
          told = message
          return logLine("Warn", `${message}; those from before stay in use`)
        }
      })
    ))
    if (Duration.isFinite(every)) yield* background(yield* Effect.scope, "certificates", watch)
    return certificates
  })
