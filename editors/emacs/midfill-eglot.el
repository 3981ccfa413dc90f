;;; midfill-eglot.el --- midfill as a server of eglot's  -*- lexical-binding: t; -*-

;; SPDX-License-Identifier: Apache-2.0

;;; Commentary:

;; Registers midfill with eglot, behind all other servers.

;;; Code:

(require 'eglot)
(require 'midfill)

(defun midfill-eglot--contact (&rest _)
  "Return how eglot reaches the server."
  (let ((settings (midfill--settings)))
    (append (midfill--serve-command)
            (list :initializationOptions
                  ;; eglot knows no ghost text and does not say that we draw it:
                  ;; the completion menu would have the same text once more.
                  (append (and (listp settings) settings)
                          (unless midfill-completion-fallback
                            '(:completion_fallback "off")))))))

;; Last: a language's own server is found first.
(add-to-list 'eglot-server-programs
             (cons '(prog-mode text-mode conf-mode) #'midfill-eglot--contact)
             t)

(cl-defmethod eglot-handle-notification
  (_server (_method (eql 'midfill/didChangeStatus)) &rest status)
  "Show STATUS in the mode line."
  (midfill--take-status status))

(provide 'midfill-eglot)
;;; midfill-eglot.el ends here
