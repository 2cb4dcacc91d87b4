// Debian builds activestorage.js without Babel's helpers, and calls these two.
window.babelHelpers = {
  classCallCheck(instance, Constructor) {
    if (!(instance instanceof Constructor)) throw new TypeError("Cannot call a class as a function");
  },
  createClass(Constructor, methods, statics) {
    const define = (target, properties) =>
      (properties || []).forEach((property) => {
        const more = "value" in property ? { writable: true } : {};
        Object.defineProperty(target, property.key, { configurable: true, ...more, ...property });
      });
    define(Constructor.prototype, methods);
    define(Constructor, statics);
    return Constructor;
  },
};
