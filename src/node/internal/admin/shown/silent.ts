/** Which workers do not answer. */
import type { Figures } from "../schemas.ts"

/** As a list in a sentence; empty where all answer, or there is one process. */
export const silentOf = (figures: Figures | undefined): string =>
  (figures?.workers ?? []).filter(({ state }) => state === "silent").map(({ number, process }) =>
    `worker ${number}${process === null ? "" : ` (process ${process})`}`
  ).join(", ")
