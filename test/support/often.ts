/** Tests with the tag `long` do in `npm test` what finds a bug within seconds, and in `npm run test:long` what takes minutes. */

/** How often, or how many. */
export const often = (inTest: number, inLong: number): number => process.env.HOLDFAST_LONG === "on" ? inLong : inTest

/** Options of such a test. */
export const long = (timeout: number) => ({ timeout, tags: ["long"] })

/** Whether this is `npm run test:long`, for a test that is in no other run. */
export const isLong = process.env.HOLDFAST_LONG === "on"

/** Whether this is `npm run test:goals`: all cases of tests of which `npm run test:long` runs one of each kind. */
export const isFull = process.env.HOLDFAST_GOALS === "on"
