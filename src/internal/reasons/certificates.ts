/** What there is to say of a certificate that one end does not accept. */
import * as Schema from "effect/Schema"
import { causeText } from "./text.ts"

/** What can be wrong with a certificate. */
export const problems = ["untrusted", "expired", "notYetValid", "revoked", "wrongName", "missing", "other"] as const

export type Problem = typeof problems[number]

export const certificateFacts = {
  by: Schema.Literals(["local", "peer"]),
  problem: Schema.Literals(problems),
  cause: Schema.Defect()
}

const wrong: Record<Problem, string> = {
  untrusted: "no trusted authority signed it",
  expired: "it has expired",
  notYetValid: "it is not valid yet",
  revoked: "it was revoked",
  wrongName: "it is for another name",
  missing: "none was shown",
  other: "it is not accepted"
}

interface Facts {
  readonly by: "local" | "peer"
  readonly problem: Problem
  readonly cause: unknown
}

export const certificateRow = {
  text: ({ by, cause, problem }: Facts): string =>
    `${by === "local" ? "we refused the certificate of the peer" : "the peer refused our certificate"}: ` +
    `${wrong[problem]} (${causeText(cause)})`,
  codes: { retry: false }
}
