/** The ways to break the runtime on purpose; `sabotage.ts` does it. */

/**
 * - `order`: the messages of a batch change places;
 * - `twice`: a message is received again;
 * - `lost`: a send never settles;
 * - `registry`: an entry stays although its connection has ended;
 * - `silence`: a silent peer is never found;
 * - `outbox`: an outbox takes more than its policy says;
 * - `fiber`: a connection leaves a fiber behind.
 */
export const kinds = ["order", "twice", "lost", "registry", "silence", "outbox", "fiber"] as const

export type Sabotage = typeof kinds[number]
