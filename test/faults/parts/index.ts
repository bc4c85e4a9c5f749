/** Every part, in the order of the table. */
import type { Part } from "../fault.ts"
import { links } from "./links.ts"

export const parts: ReadonlyArray<Part> = [...links]
