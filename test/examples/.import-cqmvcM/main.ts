import "./0.ts"
console.log("1 done")