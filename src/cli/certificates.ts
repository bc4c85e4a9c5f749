/** The certificates of `serve`, from the files of its flags, and renewed. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { causeText } from "../internal/reasons/text.ts"
import * as Certificates from "../node/Certificates.ts"
import type * as Listener from "../node/Listener.ts"
import { textOf } from "./files.ts"

/** Reads the files of certificates again, and says so. */
export const renewing = (certificates: Certificates.Certificates<unknown>): Effect.Effect<void> =>
  Effect.matchEffect(certificates.renew, {
    onFailure: (error) => Console.error(`holdfast: ${causeText(error)}; those from before stay in use`),
    onSuccess: () => Console.error("the certificates are renewed")
  })

interface Files {
  readonly cert: Option.Option<string>
  readonly key: Option.Option<string>
  readonly ca: Option.Option<string>
}

/** The options of a listener: what is in the files, or certificates that are renewed with them. */
export const tlsOf = Effect.fnUntraced(function*({ ca, cert, key }: Files) {
  const tls: Listener.ListenOptions = {
    cert: yield* textOf("--cert", cert),
    key: yield* textOf("--key", key),
    ca: yield* textOf("--ca", ca)
  }
  if (Option.isNone(cert) || Option.isNone(key)) return tls
  const paths = { cert: cert.value, key: key.value, ca: Option.getOrUndefined(ca) }
  const certificates = yield* Effect.option(Certificates.files(paths))
  // what cannot be used is told by the listener; what came through a pipe is not renewed
  return Option.isNone(certificates) ? tls : { certificates: certificates.value } satisfies Listener.ListenOptions
})
