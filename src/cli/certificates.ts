/** The certificates of `serve`, from the files of its flags, and renewed. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { background } from "../internal/scheduling/supervised.ts"
import * as Certificates from "../node/Certificates.ts"
import type * as Listener from "../node/Listener.ts"
import { fileProblem } from "./CommandFailed.ts"

const readFile = Effect.fnUntraced(function*(flag: string, path: Option.Option<string>) {
  if (Option.isNone(path)) return undefined
  const files = yield* FileSystem.FileSystem
  return yield* Effect.mapError(files.readFileString(path.value), fileProblem(flag, path.value))
})

const ignore = (): void => {}

/** SIGHUP has the files of certificates read again, in place of ending the process. */
const renewedBySignal = (certificates: Certificates.Certificates): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) => {
    const renew = Effect.matchEffect(certificates.renew, {
      onFailure: ({ message }) => Console.error(`holdfast: ${message}; those from before stay in use`),
      onSuccess: () => Console.error("the certificates are renewed")
    })
    const signalled = Effect.callback<void>((resume) => {
      const onSignal = (): void => resume(Effect.void)
      process.once("SIGHUP", onSignal)
      return Effect.sync(() => process.off("SIGHUP", onSignal))
    })
    const loop = Effect.forever(Effect.andThen(signalled, renew))
    // one that comes during a renewal must not end the process
    const hearing = Effect.acquireRelease(
      Effect.sync(() => process.on("SIGHUP", ignore)),
      () => Effect.sync(() => process.off("SIGHUP", ignore))
    )
    return Effect.andThen(hearing, background(scope, "certificates", loop))
  })

interface Files {
  readonly cert: Option.Option<string>
  readonly key: Option.Option<string>
  readonly ca: Option.Option<string>
}

/** The options of a listener: what is in the files, or certificates that are renewed with them. */
export const tlsOf = Effect.fnUntraced(function*({ ca, cert, key }: Files) {
  const tls: Listener.ListenOptions = {
    cert: yield* readFile("--cert", cert),
    key: yield* readFile("--key", key),
    ca: yield* readFile("--ca", ca)
  }
  if (Option.isNone(cert) || Option.isNone(key)) return tls
  const paths = { cert: cert.value, key: key.value, ca: Option.getOrUndefined(ca) }
  const certificates = yield* Effect.option(Certificates.files(paths))
  // what cannot be used is told by the listener
  if (Option.isNone(certificates)) return tls
  yield* renewedBySignal(certificates.value)
  return { certificates: certificates.value } satisfies Listener.ListenOptions
})
